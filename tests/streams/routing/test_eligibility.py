"""What decides about an event before any rule does."""

from typing import Any

import pytest

from streams.consent.policy import Consent, ConsentCategory
from streams.events import EventError
from streams.routing.eligibility import Sample, find_source
from streams.routing.ruleset import Route
from streams.sources.source import Source, Sources

WEB, SERVER = Source.of("web", ["key-of-web"]), Source.of("server", ["key-of-server"])


@pytest.mark.parametrize(
    ("named", "event", "default", "found"),
    [
        ("server", {}, None, "server"),
        ("server", {"writeKey": "key-of-web"}, "web", "server"),
        ("gone", {"writeKey": "key-of-web"}, "web", None),
        ("", {"writeKey": "key-of-web"}, "web", None),
        (None, {"writeKey": "key-of-web"}, "server", "web"),
        (None, {"writeKey": "wrong"}, "server", None),
        (None, {"writeKey": ""}, "server", None),
        (None, {"writeKey": 7}, "server", None),
        (None, {"writeKey": ["key-of-web"]}, "server", None),
        (None, {"writeKey": None}, "server", "server"),
        (None, {}, "server", "server"),
        (None, {}, None, None),
    ],
)
def test_the_source_of_an_event(named: str | None, event: dict[str, Any], default: str | None, found: str | None):
    """The record's header decides, else the write key, else the default; one that is wrong falls back on nothing."""
    sources = Sources([WEB, SERVER], default)
    if found is None:
        with pytest.raises(EventError, match="no source"):
            find_source(sources, named, event)
    else:
        assert find_source(sources, named, event).name == found


ALL = {
    "consent": Consent((ConsentCategory("ads"),)),
    "sample": Sample(0.0),
}
GRANTED = {"context": {"consent": {"categoryPreferences": {"ads": True}}}}


def outcome(event: dict[str, Any], source: Source | None = None, **options: Any) -> str | None:
    route = Route("one", "t", lambda _: [], **options)
    held = [check({"type": "page", "userId": "u", **event}, source) for check in route.checks]
    return next((each.outcome for each in held if each), None)


def test_the_strongest_reason_is_the_outcome():
    """An opt-out takes precedence over missing consent, and that over the sample."""
    no = {"integrations": {"one": False}}
    assert outcome(no, **ALL) == "opted_out"
    assert outcome({}, **ALL) == "consent"
    assert outcome(GRANTED, **ALL) == "sampled"
    assert outcome(GRANTED, consent=ALL["consent"]) is None
    assert outcome({}) is None


@pytest.mark.parametrize(
    ("integrations", "out"),
    [
        ({}, False),
        (None, False),
        ({"one": False}, True),
        ({"one": True, "All": False}, False),
        ({"one": {"id": 1}, "All": False}, False),
        ({"All": False}, True),
        ({"All": True, "one": False}, True),
        ({"two": False}, False),
        ({"one": None}, True),
        ({"one": 0}, True),
        ({"one": "false"}, True),
    ],
)
def test_a_no_of_any_kind_opts_out(integrations: Any, out: bool):
    """The integration's own name counts before `All`; in doubt the event opts out."""
    assert outcome({"integrations": integrations}) == ("opted_out" if out else None)


def test_a_sources_assumption_is_stronger_than_the_integrations():
    """The default is used only if the event has no consent information."""
    trusting, strict = Source.of("a", [], assume="granted"), Source.of("b", [], assume="denied")
    lenient = Consent((ConsentCategory("ads"),), assume="granted")
    assert outcome({}, trusting, consent=ALL["consent"]) is None
    assert outcome({}, strict, consent=lenient) == "consent"
    assert outcome({}, WEB, consent=lenient) is None
    assert outcome({}, None, consent=lenient) is None
    denied = {"context": {"consent": {"categoryPreferences": {"ads": False}}}}
    assert outcome(denied, trusting, consent=lenient) == "consent"
