"""Enrichments as steps: results are applied completely, or not at all if they fail."""

from copy import deepcopy
from typing import Any

import pytest

from streams.events import Event
from streams.observability.metrics import ENRICHMENT_FAILURES
from streams.records.outcomes import Outcome
from streams.steps.enrichment.contract import Enrich
from streams.steps.enrichment.patches import fill
from streams.steps.enrichment.step import EnrichmentStep, OwnEnrichmentStep
from streams.steps.source_rules import merge_into
from streams.steps.step import Blocked

BASE: Event = {"type": "track", "event": "Seen", "userId": "u-1", "properties": {"a": 1, "b": None, "c": {"d": 1}}}


def failures(name: str) -> float:
    """How often the metric says that the enrichment failed."""
    return ENRICHMENT_FAILURES.labels(name)._value.get()


def take(step: EnrichmentStep, event: Event) -> tuple[Event | Blocked, list[tuple[str, str]]]:
    """What the step gives, and its notes."""
    notes: list[tuple[str, str]] = []
    return step(event, lambda *note: notes.append(note)), notes


def raises(_: Event) -> Any:
    raise ZeroDivisionError("u-1")


def spoils(event: Event) -> Any:
    event["properties"]["a"] = 2
    raise KeyError(event["userId"])


def test_missing_and_null_keys_are_filled():
    """What the sender gave stays, at any depth."""
    event = deepcopy(BASE)
    fill(event, {"userId": "x", "properties": {"a": 2, "b": 2, "c": {"d": 2, "e": 2}, "f": {"g": 2}}, "context": {}})
    assert event["userId"] == "u-1"
    assert event["properties"] == {"a": 1, "b": 2, "c": {"d": 1, "e": 2}, "f": {"g": 2}}


def test_a_replacing_patch_wins():
    """A merge patch puts its values in, and null takes a key out."""
    event = deepcopy(BASE)
    merge_into(event, {"userId": None, "properties": {"a": {"x": 1}, "c": 7}})
    assert event == {"type": "track", "event": "Seen", "properties": {"a": {"x": 1}, "b": None, "c": 7}}


@pytest.mark.parametrize("put", [fill, merge_into])
def test_a_patch_is_not_shared(put):
    """A patch from a cache may go into many events, each of which is changed later."""
    patch = {"context": {"os": {"name": "iOS"}}}
    one: Event = {"context": None}
    put(one, patch)
    one["context"]["os"]["name"] = "changed"
    assert patch == {"context": {"os": {"name": "iOS"}}}


def test_a_deep_patch_goes_in():
    """Masked text may be nested deeper than Python's recursion limit."""
    patch: dict[str, Any] = {}
    for _ in range(5_000):
        patch = {"a": patch}
    merge_into({}, patch)


@pytest.mark.parametrize("kind", [EnrichmentStep, OwnEnrichmentStep])
def test_a_failure_leaves_the_event_as_it_was(kind):
    """An enrichment that raises is noted by name without event data, and counted; the event continues."""
    event, before = deepcopy(BASE), failures("failing")
    taken, notes = take(kind("failing", raises, replaces=False), event)
    assert taken == BASE
    assert notes == [("enrichment", "failing")]
    assert failures("failing") == before + 1


@pytest.mark.parametrize(
    "enrich",
    [
        pytest.param(spoils, id="half done"),
        pytest.param(lambda _: {"userId": None}, id="no user left"),
        pytest.param(lambda _: {"properties": {"when": object()}}, id="no JSON"),
        pytest.param(lambda _: "text", id="no patch"),
    ],
)
def test_another_packages_enrichment_cannot_break_an_event(enrich: Enrich):
    """It works on a copy, and its result must be a valid event."""
    event = deepcopy(BASE)
    taken, notes = take(OwnEnrichmentStep("own", enrich, replaces=True), event)
    assert taken == BASE
    assert notes == [("enrichment", "own")]


def test_an_event_may_be_held():
    """An enrichment may say that an event goes no further."""
    held = Blocked(Outcome.FILTERED, "tired")
    for kind in (EnrichmentStep, OwnEnrichmentStep):
        assert take(kind("holding", lambda _: held, replaces=False), deepcopy(BASE)) == (held, [])
