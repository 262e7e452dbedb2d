"""Golden requests of every forwarder: see `golden.py`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from forwarders import registry
from tests.forwarders import golden

CASES = [
    pytest.param(name, path, variant, written, event, id=f"{name}-{path.stem}-{variant}")
    for name in registry.names()
    for path, variant, written, event in golden.cases(name)
]


@pytest.mark.parametrize(("name", "path", "variant", "written", "event"), CASES)
def test_request(name: str, path: Path, variant: str, written: Mapping[str, Any], event: Mapping[str, Any]) -> None:
    """An event becomes the rule, payload and request that are written down, to the letter."""
    given = {key: written[key] for key in ("settings", "event") if key in written}
    assert {**given, **golden.outcome(name, event, **written.get("settings", {}))} == written


@pytest.mark.parametrize("name", registry.names())
def test_usual_events_are_covered(name: str) -> None:
    """Every usual event has its outcome written down, in all its variants."""
    written = {(path.stem, variant) for path, variant, _, _ in golden.cases(name)}
    usual = {(event, variant) for event in golden.usual_events(name) for variant in golden.EVENTS[event]}
    assert usual <= written
