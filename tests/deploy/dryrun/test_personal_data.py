"""Masking of personal data in recorded events."""

import re
from typing import Any

import pytest

from deploy.dryrun.personal_data import PersonalDataMask

MASK = PersonalDataMask(b"a key")

EVENT: dict[str, Any] = {
    "type": "track",
    "event": "Order Completed",
    "messageId": "m-0001",
    "userId": "user-4711",
    "anonymousId": "3f2b8c1e-9a77-4c55-8d10-1b2c3d4e5f60",
    "context": {
        "ip": "93.184.216.34",
        "library": {"name": "analytics.js", "version": "2.1.0"},
        "page": {"url": "https://shop.example/thanks?order=9&email=Ann%40Example.org&gclid=Cj0KCQ", "title": "Thanks"},
        "traits": {"email": "ann@example.org", "name": "Ann Miller", "plan": "pro", "birthday": "1990-05-01"},
        "device": {"id": "A1B2", "name": "Ann's phone", "model": "Pixel 8"},
    },
    "properties": {
        "total": 59.9,
        "customer": "user-4711",
        "note": "call ann@example.org, card 4111 1111 1111 1111, order 4111 1111 1111 1112",
        "phone": "+49 170 1234567",
        "mobile": 491701234567,
        "products": [{"name": "Kettle", "price": 59.9}],
        "shipping_address": {"street": "High Street 1", "zip": "10115", "country": "DE", "lines": ["c/o Bob"]},
        "latitude": 52.52,
        "gender": None,
        "age_verified": True,
    },
}


def shape(value: Any) -> Any:
    """The structure, the types, and the lengths of lists."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in value.items()}
    return [shape(each) for each in value] if isinstance(value, list) else type(value)


def test_structure_and_types_stay():
    """Every key, list and type is as before, and the given event is unchanged."""
    before = repr(EVENT)
    assert shape(MASK.mask(EVENT)) == shape(EVENT)
    assert repr(EVENT) == before


def test_nothing_personal_is_left():
    """No personal value of the event occurs anywhere, also not in URLs and texts; the others are as before."""
    text = repr(MASK.mask(EVENT))
    for personal in (
        *("user-4711", "3f2b8c1e", "93.184", "ann@", "Ann", "Miller", "1990-05-01", "A1B2", "1111 1111 1111 1111"),
        *("170 1234567", "491701234567", "High Street", "10115", "c/o Bob", "52.52", "Cj0KCQ"),
    ):
        assert personal.casefold() not in text.casefold(), personal
    masked = MASK.mask(EVENT)
    for path in (("event",), ("messageId",), ("context", "library"), ("context", "page", "title")):
        found: Any = masked
        wanted: Any = EVENT
        for key in path:
            found, wanted = found[key], wanted[key]
        assert found == wanted
    assert masked["context"]["traits"]["plan"] == "pro"
    assert masked["context"]["device"]["model"] == "Pixel 8"
    assert masked["properties"]["products"] == EVENT["properties"]["products"]
    assert masked["properties"]["shipping_address"]["country"] == "DE"
    assert "order 4111 1111 1111 1112" in masked["properties"]["note"]


def test_the_same_value_has_the_same_replacement():
    """Wherever it is, in every event, and with any case of letters; another key gives another replacement."""
    masked = MASK.mask(EVENT)
    assert masked["properties"]["customer"] == masked["userId"]
    email = masked["context"]["traits"]["email"]
    assert f"call {email}," in masked["properties"]["note"]
    upper = MASK.mask({"email": "Ann@Example.org"})["email"]
    assert upper != email
    assert upper.lower() == email
    assert MASK.mask({"traits": {"email": "ann@example.org"}})["traits"]["email"] == email
    assert PersonalDataMask(b"another").mask({"email": "ann@example.org"})["email"] != email


@pytest.mark.parametrize(
    ("key", "value", "pattern"),
    [
        ("email", "ann.miller+x@example.org", r"[a-z]{3}\.[a-z]{6}\+[a-z]@[a-z]+\.example"),
        ("email", "ann%40example.org", r"[a-z]{3}%40[a-z]+\.example"),
        ("ip", "10.1.2.3", r"198\.1[89]\.\d+\.\d+"),
        ("ip", "2a00:1450::1", r"2001:db8:[0-9a-f:]+"),
        ("phone", "+49 170-123", r"\+[1-9]\d \d{3}-\d{3}"),
        ("phone", "0170", r"0\d{3}"),
        ("birthday", "1990-05-01T00:00:00Z", r"(19|20)\d\d-[01]\d-[0-3]\dT00:00:00Z"),
        ("userId", "3F2B8C1E-9A77-4C55-8D10-1B2C3D4E5F60", r"[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}"),
        ("lastName", "Müller-Ş", r"[A-Z][a-z]{5}-[A-Z]"),
        ("phone", 491701234567, r"[1-9]\d{11}"),
        ("lat", -33.9, r"-?\d{1,2}\.\d{1,4}"),
        ("name", "\ud800", ".+"),
        ("email", "", ""),
    ],
)
def test_the_form_of_a_value_stays(key: str, value: Any, pattern: str):
    """A masked value is of the form that rules and vendors expect."""
    masked = MASK.mask({"traits": {key: value}})["traits"][key]
    assert type(masked) is type(value)
    assert re.fullmatch(pattern, str(masked)), masked
