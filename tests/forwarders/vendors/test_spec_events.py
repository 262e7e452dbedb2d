"""The standard events of the event spec at every vendor."""

import csv
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from forwarders.api.contract import Category
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


@pytest.mark.parametrize(
    "name", [name for name in FIELDS if golden.of(name).forwarder.contract.category is not Category.ADVERTISING]
)
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
    """A vendor's folder has a README with its quirks and what is left out on purpose."""
    if (
        golden.of(folder.name).forwarder.contract.category is Category.ADVERTISING
        and not (folder / "README.md").exists()
    ):
        pytest.skip("has no README yet")
    text = (folder / "README.md").read_text()
    assert "\n## Quirks\n" in text
    assert "\n## Left out on purpose\n" in text
