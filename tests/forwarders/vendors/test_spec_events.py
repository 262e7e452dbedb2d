"""The standard events of the event spec at every vendor."""

import csv
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from deploy.conformance.golden import item_of
from forwarders.api.contract import HttpForwarder, check_payload
from tests.support import golden, spec_events

ROOT = Path(__file__).parents[3]
WITH_MODEL = [name for name in golden.NAMES if golden.of(name).forwarder.contract.payload]


@pytest.mark.parametrize("name", WITH_MODEL)
def test_standard_events_are_valid(name: str) -> None:
    """No standard event or call becomes a dead letter, whether its sender knows the user, the visitor or both."""
    forwarder, problems = golden.of(name).make(), {}
    for event in (*spec_events.TRACKS, *spec_events.CALLS):
        for identity in spec_events.IDENTITIES:
            given: dict[str, Any] = spec_events.event(event, identity)
            if event == "alias" and "userId" not in given:
                continue
            for _, payload in spec_events.made(golden.of(name), given):
                if isinstance(payload, dict) and (error := forwarder.validate(payload)):
                    problems[event, identity] = error
    assert not problems


def fields() -> dict[str, list[tuple[str, list[str]]]]:
    """Fields that another router sends for standard events, by vendor, each with some of the events."""
    found = defaultdict(list)
    for vendor, field, events in list(csv.reader((ROOT / "tests/cases/vendor_fields.tsv").open(), delimiter="\t"))[1:]:
        found[vendor].append((field, events.split("; ")))
    return found


def is_sent(vendor: str, field: str, event: str) -> bool:
    """Whether any request for an event has a field, whatever list of the body it is in."""
    bodies = [
        body
        for place in spec_events.SPEC["places"]
        for body in spec_events.requests(golden.of(vendor), spec_events.event(event, place=place))
    ]
    path = field.split(".")
    return any(
        spec_events.has(part, path)
        for body in bodies
        for part in (body, *(body.values() if isinstance(body, dict) else ()))
    )


FIELDS = fields()


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_is_decided(name: str) -> None:
    """A field that another router sends is in our request too, or the vendor's README says why it is left out."""
    readme = (ROOT / "forwarders/vendors" / name / "README.md").read_text()
    reasons = readme.partition("## Left out on purpose")[2]
    open_fields = [
        field
        for field, events in FIELDS[name]
        if not all(is_sent(name, field, event) for event in events) and field.rpartition(".")[2] not in reasons
    ]
    assert not open_fields


@pytest.mark.parametrize(
    "folder",
    [path.parent for path in sorted((ROOT / "forwarders/vendors").glob("*/forwarder.py"))],
    ids=lambda folder: folder.name,
)
def test_folder_is_complete(folder: Path) -> None:
    """A vendor's folder has a README with its quirks and deliberate omissions."""
    text = (folder / "README.md").read_text()
    assert "\n## Quirks\n" in text
    assert "\n## Left out on purpose\n" in text


DIRT: dict[str, Any] = {
    "product without ID": {"products": [{"name": "Teapot", "price": 20.5, "quantity": 1}]},
    "empty product": {"products": [{}]},
    "no products": {"products": []},
    "products that are not a list": {"products": "Teapot"},
    "products that are texts": {"products": ["P-1"]},
    "empty currency": {"currency": ""},
    "currency as a number": {"currency": 826},
    "empty email": {"email": ""},
    "number as a name": {"products": [{"product_id": 1, "name": 5, "price": 1, "quantity": 1}], "affiliation": 7},
    "list as a category": {
        "products": [{"product_id": "P-1", "category": ["Kitchen", "Tea"], "price": 1, "quantity": 1}]
    },
    "part of a piece": {"products": [{"product_id": "P-1", "price": 1, "quantity": 1.5}]},
    "numbers as texts": {"revenue": "45.50", "products": [{"product_id": "P-1", "price": "1,50", "quantity": "two"}]},
    "order without ID": {"order_id": ""},
}
REQUIRED = {  # by vendor, what it requires of an order
    "google_ads": {"order without ID"},
    "iterable": {"order without ID"},
    "meta": {"empty currency", "currency as a number"},
}


@pytest.mark.parametrize("name", WITH_MODEL)
def test_dirty_orders_are_sent(name: str) -> None:
    """An order with an odd product, currency, name or amount is sent without it, if the vendor does not require it."""
    forwarder, problems = golden.of(name).make(), {}
    for dirt, changes in DIRT.items():
        given = spec_events.event("Order Completed")
        given["properties"] |= changes
        given["integrations"] = {"google_ads": {"gclid": "g-1"}, "linkedin": {"li_fat_id": "f-1"}}
        if "email" in changes:
            given["context"]["traits"]["email"] = changes["email"]
        for _, payload in spec_events.made(golden.of(name), given):
            if isinstance(payload, dict):
                checked = check_payload(forwarder, payload, 1000)
                if checked.problem and dirt not in REQUIRED.get(name, ()):
                    problems[dirt] = checked.problem.detail
                elif not checked.problem and isinstance(forwarder, HttpForwarder):
                    forwarder.build_request([item_of(given, checked.payload)])
    assert not problems
