"""Presets: values that shops often send empty."""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from deploy.conformance.golden import EVENTS
from forwarders.api.contract import check_payload
from streams.events import EventError, normalize
from tests.support import golden
from transforms import Failure

REQUIRED = yaml.safe_load((Path(__file__).parents[2] / "cases" / "required_places.yaml").read_text())
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


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something is in an event; of a list only its first item."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value[:1]):
        yield (*at, key)
        if isinstance(inner, dict | list):
            yield from places(inner, (*at, key))


@pytest.mark.parametrize("name", [name for name in golden.NAMES if golden.of(name).forwarder.contract.payload])
def test_a_value_of_another_type_costs_only_itself(name: str) -> None:
    """A wrong type, such as a list instead of text, causes a dead letter only if the vendor requires the value."""
    forwarder, preset = golden.of(name).make(), golden.of(name).preset
    required = {*REQUIRED.get(name, ()), "timestamp"}  # the router gives each event a timestamp
    found: dict[str, str] = {}
    for event in EVENTS.values():
        text = orjson.dumps(event["everything"])
        for *path, last in places(event["everything"]):
            place = ".".join(map(str, (*path, last)))
            if place in required or place == "type":
                continue
            for odd in ("", ["x"], {}, 5, False, "x"):
                changed = orjson.loads(text)
                node = changed
                for step in path:
                    node = node[step]
                node[last] = odd
                try:
                    made = preset.apply(normalize(changed))
                except EventError:
                    continue
                for _, payload in made:
                    if isinstance(payload, Failure):
                        found[place] = payload.error
                    elif isinstance(payload, dict) and (problem := check_payload(forwarder, payload, 1000).problem):
                        found[place] = problem.detail
    assert not found
