"""The routing decision: what happens to one event for each integration. Pure, and without Kafka.

The router, `explain`, `test`, `diff`, `verify`, previews and replays all call `decide`, so that what is shown is what
runs.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import orjson

from streams import events
from streams.events import Event, EventError, Note
from streams.observability.internal_error import INTERNAL, describe, to_exception
from streams.parsing.times import record_time, rfc3339
from streams.records.delivery import DeliveryRecord
from streams.records.outcomes import FORWARDED, Outcome
from streams.records.rejected import QUARANTINED_REASON
from streams.records.size import HEADROOM, LARGEST_RECORD_BYTES, RecordTooLargeError
from streams.routing.decoding import IncomingEvent
from streams.routing.ruleset import Route, RuleSet
from streams.sources.source import Source
from streams.steps.step import Blocked, StepTrace, run_steps
from transforms import DROP, Failure

MAPPING, NOT_JSON, TOO_LARGE = "mapping", "not_json", "too_large"
"""Reasons of deliveries that die before they are forwarded."""

TOMBSTONE = Blocked(Outcome.FILTERED, "tombstone")
"""Why a record without a value goes no further."""

REPEATED = Blocked(Outcome.DUPLICATE)
"""Why a repeated event goes no further."""


class RouteDecision(NamedTuple):
    """What happens to the event for one integration, by one rule ("" if no rule decided).

    `outcome` is FORWARDED or final, `reason` a short code, and `detail` holds no personal data. `value` is the value of
    the forward topic's record if the event is forwarded. `dead` is the delivery that died, with an empty payload.
    `held` is why the event did not come to the rules. `error` is an error of ours.
    """

    route: Route
    rule: str
    outcome: str
    reason: str = ""
    detail: str = ""
    value: bytes | None = None
    dead: DeliveryRecord | None = None
    held: Blocked | None = None
    error: Exception | None = None


class Rejection(NamedTuple):
    """Why the record goes to the rejected topic: a short code, and words without personal data."""

    reason: str
    detail: str


class Decision(NamedTuple):
    """What happens to one event.

    `event` is as the integrations get it. `held` is why a step of the source lets it go no further. A rejected event
    has no outcomes, unless it is quarantined: then `held` is set as well.
    """

    event: Event
    outcomes: Sequence[RouteDecision]
    rejected: Rejection | None = None
    held: Blocked | None = None

    @property
    def is_rejected(self) -> bool:
        """Whether it was rejected and does not count as seen, so that it may come again; not if it is quarantined."""
        return self.rejected is not None and self.held is None


class DecisionTrace(StepTrace, Protocol):
    """Is told how the decision comes about."""

    def before_checks(self, route: Route, event: Event, source: Source | None) -> None:
        """Report that the checks of a route are about to be made; the first that fails decides."""

    def before_rules(self, route: Route, event: Event) -> None:
        """Report that the event passed the checks, and the route's rules are about to be applied."""


def decide(
    incoming: IncomingEvent,
    rules: RuleSet,
    clock: Callable[[], float],
    note: Note,
    *,
    trace: DecisionTrace | None = None,
) -> Decision:
    """Decide what happens to an event for each route of `rules`.

    The steps of the source come first. The messageId of the deliveries is the one from before the steps; name, type,
    time and time of receipt (`receivedAt`) are those that the steps leave. An event without a time gets that of its
    record, and a mark; one without a time of receipt gets the record's, too.

    An error within one route is that route's outcome (INTERNAL), and the others get the event.

    Args:
        incoming: The event. The steps may change it in place.
        rules: Version and routes; its sources are not used.
        clock: Seconds since 1970, for a record without a timestamp.
        note: Called for each remark of a step.
        trace: Is told of steps, checks and rules. It changes nothing.

    Raises:
        Exception: A step of the source failed because of an error of ours.

    """
    event, source, key = incoming.event, incoming.source, incoming.key
    message_id = event["messageId"]
    if source is not None and source.steps:
        result = _run_steps(source, event, rules, note, trace)
        if isinstance(result, Decision):
            return result
        event = result
    bare = _bare_delivery(incoming, event, rules, clock)
    data = bare.data()
    room = LARGEST_RECORD_BYTES - HEADROOM - len(key or b"")
    outcomes: list[RouteDecision] = []
    for route in rules.routes:
        try:
            if trace is not None:
                trace.before_checks(route, event, source)
            held = None
            for check in route.checks:
                if (held := check(event, source)) is not None:
                    break
            if held is not None:
                outcomes.append(_held(route, held))
                continue
            if trace is not None:
                trace.before_rules(route, event)
            made = route.apply(event)
        except BaseException as error:  # noqa: BLE001  # the other integrations are to have the event
            outcomes.append(_failed(route, bare._replace(id=message_id), to_exception(error)))
            continue
        for rule, payload in made:
            delivery_id = message_id if route.single else f"{message_id}:{rule}"
            try:
                outcomes.append(_deliver(route, bare, data, delivery_id, rule, payload, room))
            except BaseException as error:  # noqa: BLE001  # as above
                outcomes.append(_failed(route, bare._replace(id=delivery_id, rule=rule), to_exception(error)))
    return Decision(event, outcomes)


def _run_steps(
    source: Source, event: Event, rules: RuleSet, note: Note, trace: DecisionTrace | None
) -> Event | Decision:
    """Return the event that the steps of its source leave, or the decision if it goes no further."""
    try:
        result = run_steps(source.steps, event, note, trace)
    except EventError as error:
        return Decision(event, (), Rejection(error.code, str(error)))
    if isinstance(result, Blocked):
        quarantined = result.outcome is Outcome.QUARANTINED
        rejected = Rejection(QUARANTINED_REASON, result.detail) if quarantined else None
        return Decision(event, hold_for_all(rules.routes, result), rejected, result)
    return result


def _bare_delivery(incoming: IncomingEvent, event: Event, rules: RuleSet, clock: Callable[[], float]) -> DeliveryRecord:
    """Return what all deliveries of an event share: a delivery without id, rule and payload."""
    at, received, name = event.get("timestamp"), event.get("receivedAt"), event.get("event")
    if not at or not received:
        stored = rfc3339(record_time(incoming.timestamp, clock))
        at, received = events.time_of(event, stored), received or stored
    name = name if type(name) is str else None
    source = incoming.source.name if incoming.source is not None else ""
    return DeliveryRecord("", "", rules.version, event["type"], name, at, received, source, incoming.origin, {})


def _deliver(
    route: Route, bare: DeliveryRecord, data: Mapping[str, Any], delivery_id: str, rule: str, payload: Any, room: int
) -> RouteDecision:
    """Decide about what a rule made of the event.

    `bare` is the delivery without id, rule and payload, and `data` the same as a record's data: it is made once for all
    deliveries of an event. The record's value may have `room` bytes.
    """
    if payload is DROP:
        return RouteDecision(route, rule, Outcome.FILTERED)
    if type(payload) is Failure:
        where = f"{payload.path}:{payload.line}:{payload.column}: {payload.error}"
        return _dead(route, bare._replace(id=delivery_id, rule=rule), MAPPING, where)
    try:
        value = orjson.dumps({**data, "id": delivery_id, "rule": rule, "payload": payload})
    except TypeError as error:
        return _dead(route, bare._replace(id=delivery_id, rule=rule), NOT_JSON, str(error))
    if len(value) > room:
        too_large = RecordTooLargeError.of(len(value) + LARGEST_RECORD_BYTES - HEADROOM - room, LARGEST_RECORD_BYTES)
        return _dead(route, bare._replace(id=delivery_id, rule=rule), TOO_LARGE, str(too_large))
    return RouteDecision(route, rule, FORWARDED, "", "", value)


def _failed(route: Route, bare: DeliveryRecord, error: Exception) -> RouteDecision:
    return _dead(route, bare, INTERNAL, describe(error))._replace(error=error)


def _dead(route: Route, bare: DeliveryRecord, reason: str, detail: str) -> RouteDecision:
    return RouteDecision(route, bare.rule, Outcome.DEAD, reason, detail, None, bare)


def hold_for_all(routes: Sequence[Route], held: Blocked) -> list[RouteDecision]:
    """Return the outcomes of an event that goes no further for any integration."""
    return [_held(route, held) for route in routes]


def _held(route: Route, held: Blocked) -> RouteDecision:
    return RouteDecision(route, "", held.outcome, held.reason, held.detail, held=held)
