"""Make the standard events of the event spec, and map them with presets."""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from deploy.conformance.golden import Golden, item_of
from forwarders.api.contract import HttpForwarder
from streams.events import normalize

SPEC = yaml.safe_load((Path(__file__).parents[1] / "cases" / "spec_events.yaml").read_text())
TRACKS: list[str] = list(SPEC["events"])
CALLS: list[str] = list(SPEC["calls"])
IDENTITIES = {
    "both": {"userId": "u-42-ada", "anonymousId": "0a6b1c2d-1111-4222-8333-444455556666"},
    "anonymous": {"anonymousId": "0a6b1c2d-1111-4222-8333-444455556666"},
    "known": {"userId": "u-42-ada"},
}


def event(name: str, identity: str = "both", place: str | None = None) -> dict[str, Any]:
    """Return a standard event or another call by its name; by default from its usual platform, web or app."""
    place = place or ("app" if name in {*SPEC["from the app"], "screen"} else "web")
    common = {
        "messageId": "6f1c2a9e-3b44-4c1d-9a57-0d2f5e8b7c11",
        "timestamp": "2026-01-02T03:04:05.678Z",
        "context": SPEC["places"][place],
        **IDENTITIES[identity],
    }
    if name in SPEC["calls"]:
        return deepcopy({**common, "type": name, **SPEC["calls"][name]})
    return deepcopy({**common, "type": "track", "event": name, "properties": SPEC["events"][name]})


def made(golden: Golden, given: dict[str, Any]) -> list[tuple[str | None, Any]]:
    """Return the matching rules of a preset with their payloads for an event."""
    return list(golden.preset.apply(normalize(deepcopy(given))))


def requests(golden: Golden, given: dict[str, Any]) -> Iterator[Any]:
    """Yield the bodies of the requests for an event."""
    forwarder = golden.make()
    assert isinstance(forwarder, HttpForwarder)
    for _, payload in made(golden, given):
        if isinstance(payload, dict):
            yield forwarder.build_request([item_of(given, payload)]).body


def has(body: Any, path: list[str]) -> bool:
    """Return whether a request's body has a value at a path; any item of a list will do."""
    if isinstance(body, list):
        return any(has(item, path) for item in body)
    if not path:
        return body is not None
    if not isinstance(body, dict):
        return False
    # A key may itself contain a dot.
    return any(has(body[".".join(path[:n])], path[n:]) for n in range(1, len(path) + 1) if ".".join(path[:n]) in body)
