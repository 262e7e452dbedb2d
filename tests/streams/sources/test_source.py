import pytest

from streams.sources.source import Source, Sources

WEB, SERVER = Source.of("web", ["k1", "k2"]), Source.of("server", ["k3"])


def test_a_source_is_found_by_any_of_its_write_keys():
    """And an unknown key, or none, finds nothing."""
    sources = Sources([WEB, SERVER], default="web")
    assert [sources.find(key) for key in ("k1", "k2", "k3")] == [WEB, WEB, SERVER]
    assert [sources.find(key) for key in ("", "K1", "k1 ", "\ud800")] == [None] * 4


def test_a_source_is_found_by_its_name():
    """Where a record names it."""
    sources = Sources([WEB], default="web")
    assert sources.by_name("web") is WEB
    assert sources.by_name("server") is None
    assert sources.default == "web"


def test_no_write_key_can_be_read_from_the_sources():
    """Only digests are kept, so that no dump or log shows a key."""
    assert "k1" not in repr(WEB)


@pytest.mark.parametrize(
    ("sources", "default", "message"),
    [
        ([WEB, Source.of("web", ["k9"])], None, "two sources are named web"),
        ([WEB, Source.of("app", ["k2"])], None, "sources web and app share a write key"),
        ([WEB, Source.of("app", [], disabled_keys=["k2"])], None, "sources web and app share a write key"),
        ([Source.of("app", ["k9"], disabled_keys=["k9"])], None, "a write key of source app is active and disabled"),
        (
            [Source.of("a", [], topics=("t",)), Source.of("b", [], topics=("t", "u"))],
            None,
            "sources a and b share the topic t",
        ),
        ([WEB], "app", "the default source app is not declared"),
    ],
)
def test_sources_that_contradict_each_other_are_refused(sources: list[Source], default: str | None, message: str):
    """The message names them, and no key."""
    with pytest.raises(ValueError, match=message):
        Sources(sources, default)
