"""The routing decision: what happens to one event for each integration."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import orjson
import pytest

from streams.events import Event, EventError
from streams.records.delivery import DeliveryRecord
from streams.records.outcomes import Outcome
from streams.records.size import HEADROOM, LARGEST_RECORD_BYTES
from streams.routing.decision import Decision, decide
from streams.routing.decoding import EventRecord, decode
from streams.routing.ruleset import Route, RuleSet
from streams.sources.source import Source, Sources
from streams.steps.step import Blocked, Step
from transforms import DROP

NOW = 1_790_000_000.0
EVENT = {"type": "track", "event": "E", "userId": "u", "messageId": "m", "receivedAt": "2026-01-02T03:04:05.000Z"}


class Change:
    """A step that changes an event by a function."""

    name = "change"

    def __init__(self, change: Callable[[Event], Any]) -> None:
        self._change = change

    def __call__(self, event: Event, _: Any, /) -> Event | Blocked:
        taken = self._change(event)
        return taken if isinstance(taken, Blocked) else event


def route(name: str = "one", apply: Any = lambda _: [("r", {"a": 1})], **options: Any) -> Route:
    return Route(name, f"t.forward.{name}", apply, **options)


def decided(
    *routes: Route, steps: Sequence[Step] = (), key: bytes = b"u", trace: Any = None, **fields: Any
) -> Decision:
    """Decide about an event of the source `web` that came into Kafka at NOW."""
    sources = Sources([Source.of("web", [], steps)])
    value = orjson.dumps({name: value for name, value in {**EVENT, **fields}.items() if value is not None})
    record = EventRecord(value, key=key, timestamp=int(NOW * 1000), topic="t.events")
    return decide(
        decode(record, sources, "web"), RuleSet("v", sources, routes), lambda: 0.0, lambda *_: None, trace=trace
    )


def deliveries(decision: Decision) -> list[DeliveryRecord]:
    return [DeliveryRecord.decode(each.value) for each in decision.outcomes if each.value is not None]


def test_a_delivery_has_the_times_and_name_that_the_steps_leave_and_the_id_from_before():
    """`receivedAt` is read after the steps of the source."""

    def change(event: Event) -> None:
        event.update(receivedAt="2020-01-01T00:00:00.000Z", timestamp="2020-01-02T00:00:00.000Z", event="F")
        event["messageId"] = "other"

    (delivery,) = deliveries(decided(route(), steps=[Change(change)]))
    assert delivery[:8] == (
        "m", "r", "v", "track", "F", "2020-01-02T00:00:00.000Z", "2020-01-01T00:00:00.000Z", "web",
    )  # fmt: skip


def test_times_that_the_event_lacks_are_those_of_its_record():
    """The event itself gets the time, with a mark, before the rules see it."""
    decision = decided(route(apply=lambda event: [("r", dict(event))]), receivedAt=None)
    (delivery,) = deliveries(decision)
    assert delivery.time == delivery.received == delivery.payload["timestamp"] == "2026-09-21T14:13:20.000Z"
    assert delivery.payload["turnout"] == {"timestamp": "record"}


def test_an_error_in_one_route_costs_that_route_alone():
    """In its rules, or in a check; also if it makes what cannot be encoded."""

    def fail(_: Event) -> Any:
        raise KeyError("personal data")

    broken, odd = route("broken", fail), route("odd", lambda _: [("r", {"a": object()}), ("s", {"b": 1})], single=False)
    decision = decided(broken, odd, route("fine"))
    assert [(it.route.integration, it.rule, it.outcome, it.reason) for it in decision.outcomes] == [
        ("broken", "", "dead", "internal"),
        ("odd", "r", "dead", "not_json"),
        ("odd", "s", "forwarded", ""),
        ("fine", "r", "forwarded", ""),
    ]
    assert isinstance(decision.outcomes[0].error, KeyError)
    assert "personal" not in decision.outcomes[0].detail


def test_an_error_of_a_step_is_raised():
    """It is an error of ours about the whole event, which the router rejects as such."""
    with pytest.raises(ZeroDivisionError):
        decided(route(), steps=[Change(lambda _: 1 / 0)])


QUARANTINED = Blocked(Outcome.QUARANTINED, "plan", "why")


def reject(_: Event) -> Any:
    raise EventError("plan", "event", "is not planned")


@pytest.mark.parametrize(
    ("change", "rejected", "outcomes", "is_rejected"),
    [
        (reject, ("plan", "event: is not planned"), [], True),
        (lambda _: Blocked(Outcome.FILTERED, "bot"), None, [("filtered", "bot", "")], False),
        (lambda _: QUARANTINED, ("quarantined", "why"), [("quarantined", "plan", "why")], False),
    ],
)  # fmt: skip
def test_a_step_may_reject_or_hold_an_event(change: Any, rejected: Any, outcomes: Any, is_rejected: bool):
    """A rejected event has no outcomes and does not count as seen; a quarantined one has, and counts."""
    decision = decided(route(), steps=[Change(change)])
    assert decision.rejected == rejected
    assert [(it.outcome, it.reason, it.detail) for it in decision.outcomes] == outcomes
    assert decision.is_rejected == is_rejected


def test_a_record_holds_its_key_and_value():
    """To the byte; one more is a dead letter, without its payload."""
    (fits,) = decided(route(apply=lambda _: [("r", {"a": ""})])).outcomes
    assert fits.value
    most = LARGEST_RECORD_BYTES - HEADROOM - len(fits.value)
    for key, pad, reason in (
        (1000, most - 1000, ""),
        (1000, most - 999, "too_large"),
        (1001, most - 1000, "too_large"),
    ):
        grown = route(apply=lambda _, pad=pad: [("r", {"a": "x" * pad})])
        (found,) = decided(grown, key=b"k" * key).outcomes
        assert (found.outcome, found.reason) == ("dead" if reason else "forwarded", reason)
        assert found.dead is None or found.dead.payload == {}


class Listening:
    """A trace that keeps all reports."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def before_step(self, step: Step, _: Event) -> None:
        self.told.append(f"before {step.name}")

    def after_step(self, step: Step, taken: Any) -> None:
        self.told.append(f"after {step.name}: {type(taken).__name__}")

    def before_checks(self, route: Route, _event: Event, source: Source | None) -> None:
        self.told.append(f"checks of {route.integration}, {source and source.name}")

    def before_rules(self, route: Route, _: Event) -> None:
        self.told.append(f"rules of {route.integration}")


def test_a_trace_is_told_of_what_happens_and_changes_nothing():
    """Steps, checks and rules, in their order."""
    other, dropped = route("other", sources=frozenset({"server"})), route("two", lambda _: [("r", DROP)])
    trace = Listening()
    with_trace = decided(other, dropped, steps=[Change(lambda _: None)], trace=trace)
    without = decided(other, dropped, steps=[Change(lambda _: None)])
    assert [it[1:] for it in with_trace.outcomes] == [it[1:] for it in without.outcomes]
    assert [it.outcome for it in with_trace.outcomes] == ["filtered", "filtered"]
    assert trace.told == [
        "before change", "after change: dict", "checks of other, web", "checks of two, web", "rules of two"
    ]  # fmt: skip


def test_the_decision_needs_no_kafka():
    """Neither client of Kafka is imported, so that commands start fast, and it runs anywhere."""
    code = "import sys, streams.routing.decision; print({'aiokafka', 'kafka', 'faust'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
