"""Fields that presets send to one vendor for standard events."""

from typing import Any

import pytest

from tests.support import golden, spec_events

ANONYMOUS = "0a6b1c2d-1111-4222-8333-444455556666"
EXPECTED: dict[str, list[tuple[str, str, str, Any]]] = {
    "customerio": [
        ("identify", "both", "batch.0.identifiers", {"id": "u-42-ada"}),
        ("identify", "both", "batch.0.attributes.anonymous_id", ANONYMOUS),
        ("identify", "both", "batch.0.attributes.created_at", 1748736000),
        ("identify", "anonymous", "batch.0.identifiers", {"email": "ada@example.com"}),
        ("alias", "known", "batch.0.action", "merge"),
        ("alias", "known", "batch.0.primary", {"id": "u-42-ada"}),
        ("alias", "known", "batch.0.secondary", {"id": "a-9"}),
        ("Application Opened", "known", "batch.0.name", "Application Opened"),
        ("Application Opened", "known", "batch.1.action", "add_device"),
        ("Application Opened", "known", "batch.1.device.platform", "ios"),
        ("Application Opened", "anonymous", "batch", 1),
    ],
    "hubspot": [("identify", "known", "inputs.0.properties.company", "Analytical Engines")],
}


@pytest.mark.parametrize(
    ("vendor", "event", "identity", "path", "expected"),
    [(vendor, *row) for vendor, rows in EXPECTED.items() for row in rows],
)
def test_field(vendor: str, event: str, identity: str, path: str, expected: Any) -> None:
    """The request for an event has a value at a path; of a list, the number of items is expected."""
    (found,) = spec_events.requests(golden.of(vendor), spec_events.event(event, identity))
    for key in path.split("."):
        found = found[int(key)] if isinstance(found, list) else found.get(key) if isinstance(found, dict) else None
    assert (len(found) if isinstance(found, list) else found) == expected
