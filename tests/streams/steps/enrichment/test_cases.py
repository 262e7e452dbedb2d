"""The cases of tests/cases/enrichment: each enrichment's result for an event."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from streams import events
from streams.steps.enrichment import registry
from streams.steps.enrichment.files import Files
from streams.steps.source_rules import merge
from streams.steps.step import Blocked
from transforms.documents import Document

CASES = Path(__file__).parents[3] / "cases" / "enrichment"
BASE = {"type": "track", "event": "Seen", "userId": "u-1", "messageId": "m-1"}


def cases() -> list[Any]:
    return [
        pytest.param(path.stem, case, id=f"{path.stem}: {case['name']}")
        for path in sorted(CASES.glob("*.yaml"))
        for case in Document.read(path).data
    ]


@pytest.mark.parametrize(("name", "case"), cases())
def test_an_enrichment_makes_of_an_event_what_the_case_says(folder, name, case):
    """Each case holds: what changes, or why the event goes no further; nobody notes a failure."""
    enrichment = registry.find(name)
    settings = enrichment.settings.model_validate(case.get("settings", {}))
    step = registry.make_step(enrichment, settings, Files(folder))
    event = events.normalize(merge(BASE, case["event"]))
    before = deepcopy(event)
    notes: list[tuple[str, str]] = []
    taken = step(event, lambda *note: notes.append(note))
    assert notes == []
    if "held" in case:
        assert isinstance(taken, Blocked)
        assert [taken.outcome, taken.reason] == case["held"]
    else:
        assert taken == merge(before, case["expect"])
        events.normalize(taken)


def test_every_enrichment_has_cases():
    """Each of Turnout's enrichments has a file of cases, except `memory`, whose result depends on earlier events."""
    assert {path.stem for path in CASES.glob("*.yaml")} == {each.name for each in registry.BUILT_IN} - {"memory"}
