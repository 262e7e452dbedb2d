"""Encode and decode outcomes, as intervals of source offsets."""

from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from typing import Any, NamedTuple, Self

import orjson

from streams.records.format import OUTCOMES_VERSION, RecordError, decode_object

MAX_OFFSET = 1 << 43
"""The bound of offsets of events; a record with a higher one is invalid."""


class Stage(StrEnum):
    """The worker that records an outcome."""

    ROUTER = "router"
    FORWARDER = "forwarder"


class Outcome(StrEnum):
    """The outcome of an event for an integration: exactly one for each rule that matched.

    `stages` are the workers that record it, `meaning` explains it to users, and `colour` is its colour in terminals.
    """

    stages: tuple[Stage, ...]
    meaning: str
    colour: str

    DELIVERED = "delivered", (Stage.FORWARDER,), "the vendor accepted it", "green"
    FILTERED = "filtered", (Stage.ROUTER, Stage.FORWARDER), "a rule drops it, or the integration is in shadow mode"
    OPTED_OUT = "opted_out", (Stage.ROUTER,), "the event's `integrations` exclude the vendor"
    CONSENT = "consent", (Stage.ROUTER,), "the required consent is not given"
    SAMPLED = "sampled", (Stage.ROUTER,), "it is not in the sample"
    SUPPRESSED = "suppressed", (Stage.ROUTER,), "its user is suppressed"
    DRAINING = "draining", (Stage.ROUTER,), "the integration is draining and takes no new events"
    DUPLICATE = "duplicate", (Stage.ROUTER,), "its messageId was seen before"
    QUARANTINED = "quarantined", (Stage.ROUTER,), "it violates the source's tracking plan"
    EXPIRED = "expired", (Stage.FORWARDER,), "it is older than the vendor or `max_age` allows", "red"
    DEAD = "dead", (Stage.ROUTER, Stage.FORWARDER), "it cannot be mapped or delivered", "red"
    LOST = "lost", (Stage.ROUTER, Stage.FORWARDER), "Kafka's retention removed it before it was read", "red"

    def __new__(cls, value: str, stages: tuple[Stage, ...], meaning: str, colour: str = "yellow") -> Self:
        """Make an outcome with its properties."""
        outcome = str.__new__(cls, value)
        outcome._value_ = value
        outcome.stages, outcome.meaning, outcome.colour = stages, meaning, colour
        return outcome


def find_outcome(name: str) -> Outcome | None:
    """Return the outcome with this name, or None for other names such as `forwarded`."""
    return next((outcome for outcome in Outcome if outcome == name), None)


def outcomes_of(stage: Stage) -> list[Outcome]:
    """Return the outcomes that a worker records."""
    return [outcome for outcome in Outcome if stage in outcome.stages]


FORWARDED = "forwarded"
"""Not a final outcome: the router has forwarded the delivery. Any outcome replaces it."""

RETENTION = "retention"
"""The reason of the outcome `lost`."""

NOTED = "noted"
"""Not an outcome: a note about an event, without integration and rule."""


class OutcomeInterval(NamedTuple):
    """Offsets of one source partition with the same outcome, for one integration and rule.

    `rule` is empty if no rule was involved. Both ends are included. `detail` applies to all of the offsets: for
    `consent`, the missing categories.
    """

    integration: str
    rule: str
    outcome: str
    first: int
    last: int
    detail: str = ""


class OutcomeDetail(NamedTuple):
    """One offset whose outcome has a reason, or NOTED: a short code, and a detail without personal data."""

    integration: str
    rule: str
    outcome: str
    offset: int
    reason: str
    detail: str


class AttemptInterval(NamedTuple):
    """Offsets whose deliveries had the same number of attempts, and the same HTTP status at the last one.

    `rule` is that of the outcome. `attempts` is 0 if nothing was sent, `status` None if no response came, or the vendor
    is not reached by HTTP. Both ends are included.
    """

    integration: str
    rule: str
    attempts: int
    status: int | None
    first: int
    last: int


class LostDeliveries(NamedTuple):
    """Deliveries of one integration that retention removed before a forwarder read them.

    A forwarder does not know the events of records that it could not read, only which deliveries are left. A delivery
    of an event from offset `start` up to, not including, `end` is lost if it has no outcome and is not in `waiting`.

    Args:
        integration: The integration.
        reason: RETENTION.
        topic: The forward or retry topic that lost records.
        partition: The number of its partition.
        first: The first offset of the lost records.
        last: The last one.
        start: See above.
        end: See above.
        waiting: By rule the offsets of events whose deliveries are still in Kafka, as closed intervals.

    """

    integration: str
    reason: str
    topic: str
    partition: int
    first: int
    last: int
    start: int
    end: int
    waiting: Sequence[tuple[str, Sequence[tuple[int, int]]]] = ()


class Outcomes(NamedTuple):
    """A record of the outcomes topic: intervals of offsets of one source partition, never counts.

    A redelivery may repeat intervals, so readers merge them: an outcome replaces `forwarded`, and `delivered` replaces
    `dead`. `rules` is the version of the rules that decided.

    `attempts` are those of deliveries that were not delivered at the first attempt with a 2xx status; all others were.
    None means that attempts are unknown: routers make none, and older forwarders did not record them.

    For events that retention removed before a router read them, the router records the outcome LOST in a span without
    integration and rule. A forwarder records lost deliveries in `lost`.
    """

    stage: Stage
    topic: str
    partition: int
    rules: str
    spans: Sequence[OutcomeInterval]
    named: Sequence[OutcomeDetail] = ()
    attempts: Sequence[AttemptInterval] | None = None
    lost: Sequence[LostDeliveries] = ()

    def encode(self) -> bytes:
        """Encode the record's value: intervals are grouped by their other fields, and a single offset is one number."""
        groups: dict[tuple[str, ...], list[Any]] = {}
        for integration, rule, outcome, first, last, detail in self.spans:
            group = (integration, rule, outcome, detail) if detail else (integration, rule, outcome)
            groups.setdefault(group, []).append(first if first == last else (first, last))
        data: dict[str, Any] = {
            "v": OUTCOMES_VERSION,
            "stage": self.stage,
            "from": (self.topic, self.partition),
            "rules": self.rules,
            "spans": [(*group[:3], spans, *group[3:]) for group, spans in groups.items()],
            "named": [tuple(named) for named in self.named],
        }
        if self.attempts is not None:
            data["attempts"] = [tuple(each) for each in self.attempts]
        if self.lost:
            data["lost"] = [tuple(each) for each in self.lost]
        return orjson.dumps(data)

    @classmethod
    def decode(cls, value: bytes | None) -> "Outcomes":
        """Decode a record's value; raises RecordError."""
        data = decode_object(value, OUTCOMES_VERSION)
        try:
            topic, partition = data["from"]
            return cls(
                Stage(data["stage"]),
                topic,
                partition,
                data["rules"],
                [
                    OutcomeInterval(
                        integration, rule, outcome, *(span if isinstance(span, list) else (span, span)), *detail[:1]
                    )
                    for integration, rule, outcome, spans, *detail in data["spans"]
                    for span in spans
                ],
                [OutcomeDetail(*named[: len(OutcomeDetail._fields)]) for named in data["named"]],
                _attempts(data.get("attempts")),
                tuple(map(_lost, data.get("lost", ()))),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise RecordError(f"an outcome record has a missing or invalid field: {error}") from error


def _attempts(data: Any) -> list[AttemptInterval] | None:
    if data is None:
        return None
    return [AttemptInterval(*each[: len(AttemptInterval._fields)]) for each in data]


def _lost(fields: Sequence[Any]) -> LostDeliveries:
    integration, reason, topic, partition, first, last, start, end, waiting = fields[: len(LostDeliveries._fields)]
    rules = [(rule, [(first, last) for first, last in spans]) for rule, spans in waiting]
    return LostDeliveries(integration, reason, topic, partition, first, last, start, end, rules)


def intervals(offsets: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield ascending offsets as closed intervals: 1 2 3 7 gives (1, 3) and (7, 7)."""
    first = last = -1
    for offset in offsets:
        if offset == last + 1 and first >= 0:
            last = offset
            continue
        if first >= 0:
            yield first, last
        first = last = offset
    if first >= 0:
        yield first, last
