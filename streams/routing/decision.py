"""Decide the outcome of one event for each integration. Pure functions, without Kafka.

The router, `explain`, `test`, `diff`, `verify`, previews and replays all call `decide`, so that they always agree.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from streams import events
from streams.events import Event, EventError, Note
from streams.observability.internal_error import INTERNAL, describe, to_exception
from streams.parsing.times import record_time, rfc3339
from streams.records.delivery import DeliveryEncoder, DeliveryRecord
from streams.records.outcomes import FORWARDED, Outcome
from streams.records.rejected import QUARANTINED_REASON
from streams.records.size import HEADROOM, LARGEST_RECORD_BYTES, RecordTooLargeError
from streams.routing.decoding import IncomingEvent
from streams.routing.eligibility import Check, may_opt_out
from streams.routing.ruleset import Route, RuleSet
from streams.sources.source import Source
from streams.steps.step import Blocked, StepTrace, run_steps
from transforms import DROP, Failure
from transforms.joint import Results

MAPPING, NOT_JSON, TOO_LARGE = "mapping", "not_json", "too_large"
"""Reasons of deliveries that fail before they are forwarded."""

TOMBSTONE = Blocked(Outcome.FILTERED, "tombstone")
"""Blocks records without a value."""

REPEATED = Blocked(Outcome.DUPLICATE)
"""Blocks repeated events."""


class RouteDecision(NamedTuple):
    """The outcome of the event for one integration and rule ("" if no rule decided).

    `outcome` is FORWARDED or final, `reason` a short code, and `detail` has no personal data. `value` is the value of
    the forward record if the event is forwarded. `dead` is the failed delivery, with an empty payload. `held` is why
    the event was blocked before the rules. `error` is an internal error.
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
    """Why a record is rejected: a short code, and a text without personal data."""

    reason: str
    detail: str


class Decision(NamedTuple):
    """The decision about one event.

    `event` is the event after the source's steps. `held` is why a step blocked it. A rejected event has no outcomes,
    unless it is quarantined: then `held` is also set.
    """

    event: Event
    outcomes: Sequence[RouteDecision]
    rejected: Rejection | None = None
    held: Blocked | None = None

    @property
    def is_rejected(self) -> bool:
        """Whether the event is rejected and may be sent again because it does not count as seen; not if quarantined."""
        return self.rejected is not None and self.held is None


class DecisionTrace(StepTrace, Protocol):
    """Traces how a decision is made."""

    def before_checks(self, route: Route, event: Event, source: Source | None) -> None:
        """Report that a route's checks follow; the first failing check decides."""

    def before_rules(self, route: Route, event: Event) -> None:
        """Report that the event passed the checks and that the route's rules follow."""


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
    time and time of receipt (`receivedAt`) are taken after the steps. An event without a time gets the time of its
    record and is marked; one without `receivedAt` gets the record's time.

    An error in one route is that route's outcome (INTERNAL); the other routes still get the event.

    Args:
        incoming: The event. The steps may change it in place.
        rules: Version and routes; its sources are not used.
        clock: Seconds since 1970, for a record without a timestamp.
        note: Called for each note of a step.
        trace: Called for each step, check and rule. It does not change the decision.

    Raises:
        Exception: A step of the source failed with an internal error.

    """
    event, source, key = incoming.event, incoming.source, incoming.key
    message_id = event["messageId"]
    if source is not None and source.steps:
        result = _run_steps(source, event, rules, note, trace)
        if isinstance(result, Decision):
            return result
        event = result
    bare = _bare_delivery(incoming, event, rules, clock)
    encoder = DeliveryEncoder(bare)
    room = LARGEST_RECORD_BYTES - HEADROOM - len(key or b"")
    needs_all = trace is not None or may_opt_out(event)
    blocks = [
        _check(route, checks, event, source, trace)
        if (checks := route.checks if needs_all else route.checks_without_opt_out)
        else None
        for route in rules.routes
    ]
    joint = _map_jointly(rules, event, blocks) if trace is None else None
    outcomes: list[RouteDecision] = []
    for index, (route, block) in enumerate(zip(rules.routes, blocks, strict=True)):
        if block is not None:
            if isinstance(block, Blocked):
                outcomes.append(_blocked(route, block))
            else:
                outcomes.append(_failed(route, bare._replace(id=message_id), to_exception(block)))
            continue
        try:
            if trace is not None:
                trace.before_rules(route, event)
            made = route.apply(event) if joint is None else joint[index]
        except BaseException as error:  # noqa: BLE001  # one integration's failure must not affect the others
            outcomes.append(_failed(route, bare._replace(id=message_id), to_exception(error)))
            continue
        for rule, payload in made:
            delivery_id = message_id if route.single else f"{message_id}:{rule}"
            try:
                outcomes.append(_deliver(route, bare, encoder, delivery_id, rule, payload, room))
            except BaseException as error:  # noqa: BLE001  # as above
                outcomes.append(_failed(route, bare._replace(id=delivery_id, rule=rule), to_exception(error)))
    return Decision(event, outcomes)


def _check(
    route: Route, checks: Sequence[Check], event: Event, source: Source | None, trace: DecisionTrace | None
) -> Blocked | BaseException | None:
    """Return why an event is blocked for a route, or the exception that a check raised; None if it passes."""
    try:
        if trace is not None:
            trace.before_checks(route, event, source)
        for check in checks:
            if (held := check(event, source)) is not None:
                return held
    except BaseException as error:  # noqa: BLE001  # as in `decide`
        return error
    return None


def _map_jointly(rules: RuleSet, event: Event, blocks: Sequence[object]) -> Sequence[Results] | None:
    """Map an event for all unblocked routes in one call; None if each route must map it separately."""
    if rules.joint is None:
        return None
    try:
        return rules.joint.apply(event, [block is None for block in blocks])
    except BaseException as error:  # noqa: BLE001  # the route whose rules raise it fails alone
        to_exception(error)
        return None


def _run_steps(
    source: Source, event: Event, rules: RuleSet, note: Note, trace: DecisionTrace | None
) -> Event | Decision:
    """Return the event after the steps of its source, or the decision if a step rejects or blocks it."""
    try:
        result = run_steps(source.steps, event, note, trace)
    except EventError as error:
        return Decision(event, (), Rejection(error.code, str(error)))
    if isinstance(result, Blocked):
        quarantined = result.outcome is Outcome.QUARANTINED
        rejected = Rejection(QUARANTINED_REASON, result.detail) if quarantined else None
        return Decision(event, block_for_all(rules.routes, result), rejected, result)
    return result


def _bare_delivery(incoming: IncomingEvent, event: Event, rules: RuleSet, clock: Callable[[], float]) -> DeliveryRecord:
    """Return the fields that all deliveries of an event share: a delivery without ID, rule and payload."""
    at, received, name = event.get("timestamp"), event.get("receivedAt"), event.get("event")
    if not at or not received:
        stored = rfc3339(record_time(incoming.timestamp, clock))
        at, received = events.time_of(event, stored), received or stored
    name = name if type(name) is str else None
    source = incoming.source.name if incoming.source is not None else ""
    return DeliveryRecord("", "", rules.version, event["type"], name, at, received, source, incoming.origin, {})


def _deliver(
    route: Route,
    bare: DeliveryRecord,
    encoder: DeliveryEncoder,
    delivery_id: str,
    rule: str,
    payload: Any,
    room: int,
) -> RouteDecision:
    """Return the decision for a payload that a rule made.

    `bare` is the delivery without ID, rule and payload, from which `encoder` was made. The record's value is limited to
    `room` bytes.
    """
    if payload is DROP:
        return RouteDecision(route, rule, Outcome.FILTERED)
    if type(payload) is Failure:
        where = f"{payload.path}:{payload.line}:{payload.column}: {payload.error}"
        return _dead(route, bare._replace(id=delivery_id, rule=rule), MAPPING, where)
    try:
        value = encoder.encode(delivery_id, rule, payload)
    except TypeError as error:
        return _dead(route, bare._replace(id=delivery_id, rule=rule), NOT_JSON, str(error))
    if len(value) > room:
        too_large = RecordTooLargeError.of(len(value) + LARGEST_RECORD_BYTES - HEADROOM - room, LARGEST_RECORD_BYTES)
        return _dead(route, bare._replace(id=delivery_id, rule=rule), TOO_LARGE, str(too_large))
    return RouteDecision._make((route, rule, FORWARDED, "", "", value, None, None, None))  # faster than the constructor


def _failed(route: Route, bare: DeliveryRecord, error: Exception) -> RouteDecision:
    return _dead(route, bare, INTERNAL, describe(error))._replace(error=error)


def _dead(route: Route, bare: DeliveryRecord, reason: str, detail: str) -> RouteDecision:
    return RouteDecision(route, bare.rule, Outcome.DEAD, reason, detail, None, bare)


def block_for_all(routes: Sequence[Route], held: Blocked) -> list[RouteDecision]:
    """Return the outcomes of an event that is blocked for every integration."""
    return [_blocked(route, held) for route in routes]


def _blocked(route: Route, held: Blocked) -> RouteDecision:
    return RouteDecision(route, "", held.outcome, held.reason, held.detail, held=held)
