"""Personal data is masked for viewers."""

import pytest

from deploy.console.access.masking import is_personal, mask

EVENT = {
    "userId": "u-811704",
    "context": {"ip": "84.17.40.9", "traits": {"email": "lena@nordlicht.example", "firstName": "Lena", "age": 41}},
    "properties": {"total": "149,90", "note": "for u-811704", "card": "4111 1111 1111 1111", "name": "Desk lamp"},
}


def test_fields_of_persons_are_masked():
    """IDs, addresses and all traits are masked; data that is not personal stays."""
    masked = mask(EVENT)
    assert masked == {
        "userId": "u-•••",
        "context": {"ip": "84•••", "traits": {"email": "le•••", "firstName": "•••", "age": "•••"}},
        "properties": {"total": "149,90", "note": "for u-•••", "card": "•••", "name": "Desk lamp"},
    }


def test_copies_of_values_are_masked():
    """A value of a personal field is masked wherever it occurs: in a payload, an answer, a condition."""
    data = {
        "event": EVENT,
        "payload": {"uid": "u-811704", "buyer": ["lena@nordlicht.example"], "u-811704": 1},
        "answer": {"body": 'no user "u-811704" at 84.17.40.9, ask Max@else.example'},
        "untrue": [{"test": 'context.traits.email = "x"', "value": "lena@nordlicht.example"}],
    }
    text = str(mask(data))
    for secret in ("u-811704", "lena@", "84.17", "Max@"):
        assert secret not in text, secret


def test_digests_are_masked():
    """A digest identifies a person at a vendor, so only its ends are shown."""
    digest = "5f1c" * 15 + "e09a"
    assert mask({"em": [digest], "x": f"sent {digest}"}) == {"em": ["5f•••"], "x": "sent 5f•••"}
    assert mask({"x": f"sent {digest}"}) == {"x": "sent 5f1c…e09a"}


def test_origins_stay_readable():
    """Of a mapped field, values are masked and paths are not."""
    field = {
        "field": "user_data.ln", "value": "0123", "where": "meta.yaml:8", "directive": "@hash",
        "reads": [{"path": "$.properties.surname", "value": "Braun-Ferrero"}],
    }  # fmt: skip
    change = {"field": "context.ip", "before": "84.17.40.9", "after": "84.17.40.0"}
    assert mask(change) == {"field": "context.ip", "before": "84•••", "after": "84•••"}
    assert mask({"fields": [field], "event": {"properties": {"surname": "Braun-Ferrero"}}}) == {
        "fields": [field | {"value": "•••", "reads": [{"path": "$.properties.surname", "value": "Br•••"}]}],
        "event": {"properties": {"surname": "Br•••"}},
    }


@pytest.mark.parametrize(
    ("path", "personal"),
    [
        ("context.traits.anything", True), ("$.user_data[0].em", True), ("properties.E-Mail", True),
        ("anonymous_id", True), ("properties.total", False), ("context.page.url", False),
    ],
)  # fmt: skip
def test_personal_paths(path, personal):
    """A path is personal by the names in it, however they are written."""
    assert is_personal(path) is personal


def test_short_values_do_not_spread():
    """A short value is masked in its own field only, so that other texts stay readable."""
    assert mask({"traits": {"city": "Au"}, "at": "Au 2026", "year": {"birthday": "2026"}}) == {
        "traits": {"city": "•••"}, "at": "Au 2026", "year": {"birthday": "•••"},
    }  # fmt: skip


def test_words_are_masked_whole():
    """A short name is masked as a word, also in JSON within a text, and not within other words."""
    data = {"traits": {"firstName": "Lena"}, "body": '{"fn": "Lena", "state": "Lenawee"}'}
    assert mask(data)["body"] == '{"fn": "•••", "state": "Lenawee"}'


def test_many_and_long_values_are_masked():
    """Thousands of values, and one of 32 KB, are masked wherever they are a whole text."""
    traits = {f"t{number}": f"value-{number}" for number in range(5_000)} | {"long": "x" * 32_000}
    masked = mask({"traits": traits, "copies": list(traits.values())})
    assert all(text in ("va•••", "xx•••") for text in masked["copies"])
