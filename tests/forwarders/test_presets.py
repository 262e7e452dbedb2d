"""Presets: what they do with values that a shop often sends empty."""

from copy import deepcopy
from typing import Any

import pytest

from deploy.conformance.golden import EVENTS
from tests.forwarders import golden

ORDER = EVENTS["order-completed"]["smallest"]
WITH_AMOUNT = [
    *("amplitude", "ga4", "google_ads", "hubspot", "iterable", "klaviyo", "linkedin", "meta", "pinterest", "reddit"),
    *("snapchat", "tiktok"),
]


def payload(name: str, **properties: Any) -> Any:
    event = deepcopy(dict(ORDER))
    event["properties"] = {name: value for name, value in event["properties"].items() if name != "revenue"} | properties
    event["integrations"] = {
        "google_ads": {"gclid": "g-1"},
        "linkedin": {"li_fat_id": "f-1"},
        "reddit": {"click_id": "c-1"},
    }
    return golden.of(name).outcome(event)["payload"]


def leaves(found: Any) -> set[Any]:
    """All texts and numbers in a payload, numbers also as text."""
    if isinstance(found, dict | list):
        inner = found.values() if isinstance(found, dict) else found
        return set().union(*map(leaves, inner))
    return {str(found)}


@pytest.mark.parametrize("name", WITH_AMOUNT)
@pytest.mark.parametrize("revenue", ["", " ", "free", None, True, [], {}, "1e999"])
def test_an_amount_that_is_none_gives_way_to_the_next(name: str, revenue: Any) -> None:
    """A revenue that is not a number does not keep the preset from sending the total."""
    assert leaves(payload(name, revenue=revenue, total=27.5)) >= {"27.5"}


@pytest.mark.parametrize("name", ["meta", "tiktok", "snapchat", "reddit", "pinterest", "google_ads", "linkedin"])
@pytest.mark.parametrize("email", ["", " ", "none", None, 5])
def test_an_address_that_is_none_gives_way_to_the_next(name: str, email: Any) -> None:
    """An email trait that cannot be hashed does not keep the preset from sending the property's."""
    expected = golden.of(name).outcome(dict(ORDER))["payload"]
    event = deepcopy(dict(ORDER))
    event["properties"]["email"] = event["context"]["traits"]["email"]
    event["context"]["traits"]["email"] = email
    assert golden.of(name).outcome(event)["payload"] == expected
