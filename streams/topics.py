"""Every topic: its name, key, partitions, retention, and the shape of its records.

Keys are UTF-8: of an event and of all that comes from it the userId, else the anonymousId. Values are JSON, but for
`rejected`, whose values are what came, byte for byte. Each record says its format version, and a reader refuses one
that is newer than itself. deploy/docs/records.md describes all of them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple, Self

import orjson

from turnout_tracking import records

EVENT_VERSION = records.VERSION
DELIVERY_VERSION = 1
RETRIED_VERSION = 1
OUTCOMES_VERSION = 1
DEAD_LETTER_VERSION = 1
REJECTED_VERSION = 1
HANDLED_VERSION = 1
SUPPRESSED_VERSION = 1
"""The format of each record type that this code writes, and the newest that it reads.

Raise a version only if an older reader would misread the record. An additional field or header does not raise it.
"""

_OLDEST_FORMAT = b"1"
"""Readable by every reader."""

VERSION_DIGITS = 9
"""How long a version may be; a longer one is newer than any that there will be."""

SOURCE_HEADER = records.SOURCE_HEADER
VERSION_HEADER = records.VERSION_HEADER
REASON_HEADER = "turnout-reason"
DETAIL_HEADER = "turnout-detail"
FROM_HEADER = "turnout-from"
ATTEMPT_HEADER = "turnout-attempt"
DUE_HEADER = "turnout-due"
SINCE_HEADER = "turnout-since"
FORMAT_HEADER = "turnout-format"
HANDLED_HEADER = "turnout-handled"
REPLAY_HEADER = "turnout-replay"
TRACE_HEADER = "turnout-trace"
NOTED_HEADER = "turnout-noted"

QUARANTINED_REASON = "quarantined"
"""The reason of a rejected record that is an event of the outcome `quarantined`."""

SUPPRESSED_END = b"end"
"""The key of the last record of each change of the list of suppressed users.

Compaction may take a record that lifts a suppression, and a reader would wait for it at the end of the topic forever.
"""

DAY = 24 * 3600

RECORD_BYTES = 2 * 1024 * 1024
"""The largest record of the topics that Turnout writes; what is made of an event may be larger than the event."""

LONGEST_TEXT = 4096
"""Characters of a text that a record keeps beside an event, if all of it does not fit."""

Headers = list[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as declared: `name` with the prefix, retention in seconds; None: the last record of each key is kept.

    One that is another's, which a source reads, must be there with any number of partitions: None.
    """

    name: str
    partitions: int | None
    retention: int | None

    @property
    def config(self) -> dict[str, str]:
        """What the topic is created with."""
        if self.retention is None:
            return {"cleanup.policy": "compact", "max.message.bytes": str(RECORD_BYTES)}
        return {
            "cleanup.policy": "delete",
            "max.message.bytes": str(RECORD_BYTES),
            "retention.ms": str(self.retention * 1000),
        }


@dataclass(frozen=True, slots=True)
class Topics:
    """All topics of one environment; the prefix keeps environments that share a Kafka apart."""

    prefix: str = "turnout"
    partitions: int = 12
    retention_days: int = 7

    @property
    def events(self) -> str:
        """Accepted events in normal form, one per record."""
        return records.events_topic(self.prefix)

    @property
    def rejected(self) -> str:
        """What was accepted and is no valid event, or is quarantined; the headers say why and where it came from."""
        return f"{self.prefix}.rejected"

    @property
    def outcomes(self) -> str:
        """What became of each event for each integration."""
        return f"{self.prefix}.outcomes"

    @property
    def dead(self) -> str:
        """Deliveries that will never be taken, with all that is needed to send them again."""
        return f"{self.prefix}.dead"

    @property
    def suppressed(self) -> str:
        """Users that nothing is forwarded for: a record a user, whose key is a digest; without a value it is lifted.

        It has one partition, which each router reads whole. The key SUPPRESSED_END is no user's.
        """
        return f"{self.prefix}.suppressed"

    def forward(self, integration: str) -> str:
        """What one integration is to deliver."""
        return f"{self.prefix}.forward.{integration}"

    def retry(self, integration: str) -> str:
        """What one integration is to deliver later, each after the same delay; the headers say since when and why."""
        return f"{self.forward(integration)}.retry"

    def declared(self, integrations: Iterable[str], read: Iterable[str] = ()) -> list[Topic]:
        """Every topic that this environment needs; dead letters and rejected events are kept four times as long.

        `read` are topics of others that sources read.
        """
        kept, long = self.retention_days * DAY, 4 * self.retention_days * DAY
        return [
            Topic(self.events, self.partitions, kept),
            Topic(self.rejected, self.partitions, long),
            Topic(self.outcomes, self.partitions, kept),
            Topic(self.dead, self.partitions, long),
            Topic(self.suppressed, 1, None),
            *self.of_integrations(integrations),
            *(Topic(topic, None, kept) for topic in read),
        ]

    def of_integrations(self, names: Iterable[str]) -> list[Topic]:
        """The topics that are these integrations' own."""
        return [
            Topic(topic, self.partitions, self.retention_days * DAY)
            for name in names
            for topic in (self.forward(name), self.retry(name))
        ]


class RecordError(ValueError):
    """A record that cannot be read: no JSON, or a part missing."""


class NewerFormatError(RecordError):
    """A record in a format newer than this reader, which must be upgraded.

    In a topic that only Turnout writes, it ends the worker. In `events`, where anybody may write, it is rejected.
    """

    def __init__(self, version: object, newest: int) -> None:
        super().__init__(
            f"a record has format {version!r}, and this version of Turnout reads up to {newest}"
            " (upgrade the readers first)"
        )


def event_headers(source: str, trace: bytes | None = None) -> Headers:
    """Return the headers of an event's record; `trace` is the X-Turnout-Trace of the request that brought it."""
    headers = records.event_headers(source)
    if trace is not None:
        headers.append((TRACE_HEADER, trace))
    return headers


def noted_header(notes: Sequence[tuple[str, str]]) -> tuple[str, bytes]:
    """Return the header that keeps what the collector noted of an event: a short code and a detail each."""
    return NOTED_HEADER, orjson.dumps(notes)


def read_notes(headers: Iterable[tuple[str, bytes | None]]) -> list[tuple[str, str]]:
    """Return what the collector noted of an event; nothing if another producer wrote something else there."""
    for name, value in headers:
        if name == NOTED_HEADER:
            try:
                return [(str(reason)[:64], str(detail)[:256]) for reason, detail in orjson.loads(value or b"")]
            except (ValueError, TypeError):
                return []
    return []


def replay_header(partition: int, offset: int) -> tuple[str, bytes]:
    """What marks an event that was rejected and is sent again: where it lies in the rejected topic."""
    return REPLAY_HEADER, b"%d:%d" % (partition, offset)


class Origin(NamedTuple):
    """Where an event lies: the coordinates that every record made of it carries."""

    topic: str
    partition: int
    offset: int


def _origin(value: Any) -> Origin:
    """Read the coordinates in a record; raises TypeError or ValueError."""
    topic, partition, offset = value
    if not (type(topic) is str and type(partition) is type(offset) is int):
        raise TypeError("from")
    return Origin(topic, partition, offset)


class DeliveryRecord(NamedTuple):
    """A record of a forward topic: one event as one integration wants it.

    `id` is the messageId, with `:rule` behind it where several rules of a file may match; `rules` the version of the
    rules; `time` and `received` RFC 3339; `origin` the event's own coordinates.
    """

    id: str
    rule: str
    rules: str
    type: str
    event: str | None
    time: str
    received: str
    source: str
    origin: Origin
    payload: dict[str, Any]

    def data(self) -> dict[str, Any]:
        """The record's value before it is encoded."""
        delivery_id, rule, rules, kind, event, time, received, source, origin, payload = self
        return {
            "v": DELIVERY_VERSION,
            "id": delivery_id,
            "rule": rule,
            "rules": rules,
            "type": kind,
            "event": event,
            "time": time,
            "received": received,
            "source": source,
            "from": tuple(origin),
            "payload": payload,
        }

    def encode(self) -> bytes:
        """The record's value."""
        return orjson.dumps(self.data())

    @classmethod
    def decode(cls, value: bytes | None) -> "DeliveryRecord":
        """The delivery in a record's value; raises RecordError."""
        data = _decode(value, DELIVERY_VERSION)
        try:
            topic, partition, offset = data["from"]
            delivery_id, rule, rules, payload = data["id"], data["rule"], data["rules"], data["payload"]
            if not (
                type(payload) is dict
                and type(delivery_id) is type(rule) is type(rules) is type(topic) is str
                and type(partition) is type(offset) is int
            ):
                raise RecordError("a delivery has a part of another type")  # noqa: TRY301  # a call is not worth it
            return cls(
                delivery_id,
                rule,
                rules,
                data["type"],
                data["event"],
                data["time"],
                data["received"],
                data["source"],
                Origin(topic, partition, offset),
                payload,
            )
        except RecordError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise RecordError(f"a delivery lacks a part: {error}") from error


class Retried(NamedTuple):
    """The headers of a record in a retry topic, whose value is that of the forward topic.

    `attempts` so far; `due` and `since` in seconds since 1970, kept to the millisecond; `reason` a short code. The time
    from `since` to `due` counts against `retry_for`: it is the time since the first failure, less what the delivery
    waited because delivery was paused.
    """

    attempts: int
    due: float
    since: float
    reason: str

    def headers(self) -> Headers:
        """As the record has them."""
        return [
            (ATTEMPT_HEADER, b"%d" % self.attempts),
            (DUE_HEADER, b"%d" % round(self.due * 1000)),
            (SINCE_HEADER, b"%d" % round(self.since * 1000)),
            (REASON_HEADER, self.reason.encode()),
            (VERSION_HEADER, b"%d" % RETRIED_VERSION),
        ]

    @classmethod
    def decode(cls, headers: Iterable[tuple[str, bytes]]) -> "Retried":
        """What a record's headers say; raises RecordError."""
        check_version(headers, RETRIED_VERSION)
        found = dict(headers)
        try:
            attempts, due, since = (int(found[name][:15]) for name in (ATTEMPT_HEADER, DUE_HEADER, SINCE_HEADER))
            return cls(attempts, due / 1000, since / 1000, found[REASON_HEADER].decode())
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise RecordError(f"a retried delivery lacks a header: {error}") from error


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
    DUPLICATE = "duplicate", (Stage.ROUTER,), "its messageId was seen before"
    QUARANTINED = "quarantined", (Stage.ROUTER,), "it violates the source's tracking plan"
    EXPIRED = "expired", (Stage.FORWARDER,), "it is older than the vendor or `max_age` allows", "red"
    DEAD = "dead", (Stage.ROUTER, Stage.FORWARDER), "it cannot be mapped or delivered", "red"

    def __new__(cls, value: str, stages: tuple[Stage, ...], meaning: str, colour: str = "yellow") -> Self:
        """Make a text with the facts about it."""
        outcome = str.__new__(cls, value)
        outcome._value_ = value
        outcome.stages, outcome.meaning, outcome.colour = stages, meaning, colour
        return outcome


def find_outcome(name: str) -> Outcome | None:
    """Return the outcome with this name, or None for `forwarded` and the like."""
    return next((outcome for outcome in Outcome if outcome == name), None)


def outcomes_of(stage: Stage) -> list[Outcome]:
    """Return the outcomes that a worker records."""
    return [outcome for outcome in Outcome if stage in outcome.stages]


FORWARDED = "forwarded"
"""Not an outcome yet: the router has handed the delivery on. Any outcome is stronger."""

NOTED = "noted"
"""No outcome: a remark on an event, which stands by name with neither integration nor rule."""


class Span(NamedTuple):
    """Offsets of one source partition that share an outcome, for one integration and rule.

    `rule` is empty where no rule was involved. Both ends are included. `detail` is what they share besides: the
    categories of consent that they lack.
    """

    integration: str
    rule: str
    outcome: str
    first: int
    last: int
    detail: str = ""


class Named(NamedTuple):
    """One offset whose outcome needs a reason, or NOTED: a short code, and a detail without personal data."""

    integration: str
    rule: str
    outcome: str
    offset: int
    reason: str
    detail: str


class Outcomes(NamedTuple):
    """A record of the outcomes topic: intervals of offsets of one source partition, never counts.

    A redelivery may say the same again, so a reader takes the union: an outcome is stronger than `forwarded`,
    `delivered` stronger than `dead`. `rules` is the version of the rules that decided.
    """

    stage: Stage
    topic: str
    partition: int
    rules: str
    spans: Sequence[Span]
    named: Sequence[Named] = ()

    def encode(self) -> bytes:
        """The record's value: spans grouped by all but their ends; an offset alone stands as a number."""
        groups: dict[tuple[str, ...], list[Any]] = {}
        for integration, rule, outcome, first, last, detail in self.spans:
            group = (integration, rule, outcome, detail) if detail else (integration, rule, outcome)
            groups.setdefault(group, []).append(first if first == last else (first, last))
        return orjson.dumps(
            {
                "v": OUTCOMES_VERSION,
                "stage": self.stage,
                "from": (self.topic, self.partition),
                "rules": self.rules,
                "spans": [(*group[:3], spans, *group[3:]) for group, spans in groups.items()],
                "named": [tuple(named) for named in self.named],
            }
        )

    @classmethod
    def decode(cls, value: bytes | None) -> "Outcomes":
        """The outcomes in a record's value; raises RecordError."""
        data = _decode(value, OUTCOMES_VERSION)
        try:
            topic, partition = data["from"]
            return cls(
                Stage(data["stage"]),
                topic,
                partition,
                data["rules"],
                [
                    Span(integration, rule, outcome, *(span if isinstance(span, list) else (span, span)), *detail[:1])
                    for integration, rule, outcome, spans, *detail in data["spans"]
                    for span in spans
                ],
                [Named(*named[: len(Named._fields)]) for named in data["named"]],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise RecordError(f"an outcome record lacks a part: {error}") from error


class DeadLetter(NamedTuple):
    """A record of the dead topic: a delivery that will never be taken, and why.

    `delivery` is the forward record's data, with an empty payload where the router already gave up. `request` is what
    was sent (method, url, headers; secrets masked), `answer` what the vendor said (status, the first 4 KB of the body),
    both null where it did not come to that.
    """

    integration: str
    delivery: Mapping[str, Any]
    reason: str
    detail: str
    attempts: int
    died: str
    request: Mapping[str, Any] | None = None
    answer: Mapping[str, Any] | None = None

    def encode(self) -> bytes:
        """The record's value."""
        return orjson.dumps({"v": DEAD_LETTER_VERSION, **self._asdict()})

    @classmethod
    def decode(cls, value: bytes | None) -> "DeadLetter":
        """The dead letter in a record's value; raises RecordError."""
        data = _decode(value, DEAD_LETTER_VERSION)
        try:
            letter = cls(*(data[name] for name in cls._fields))
            _origin(letter.delivery["from"])
            payload = letter.delivery["payload"]
        except (KeyError, TypeError, ValueError) as error:
            raise RecordError(f"a dead letter lacks a part: {error}") from error
        if not (type(payload) is dict and type(letter.detail) is type(letter.reason) is str):
            raise RecordError("a dead letter has a part of another type")
        return letter

    def forms(self) -> list[Callable[[], tuple[bytes, Headers]]]:
        """Make the forms of the record for `Producer.safe_append`: each has less in it, the last always fits."""
        delivery = self.delivery
        unsent = self._replace(request=None, answer=None)
        bare = unsent._replace(delivery={**delivery, "payload": {}})

        def short() -> DeadLetter:
            texts = {name: value[:LONGEST_TEXT] for name, value in delivery.items() if type(value) is str}
            kept = {**dict.fromkeys(delivery), **texts, "v": DELIVERY_VERSION, "from": delivery["from"], "payload": {}}
            return bare._replace(detail=self.detail[:LONGEST_TEXT], delivery=kept)

        return [
            lambda: (self.encode(), []),
            lambda: (unsent.encode(), []),
            lambda: (bare.encode(), []),
            lambda: (short().encode(), []),
        ]


def rejected_headers(
    reason: str,
    detail: str,
    source: str,
    origin: Origin | None = None,
    *,
    version: bytes | None = None,
    trace: bytes | None = None,
) -> Headers:
    """Make the headers of a rejected record.

    Args:
        reason: A short code.
        detail: The reason in words.
        source: The event's source, empty if it is not known.
        origin: The event's place; None if the collector refused the event, before any topic.
        version: The event's format version, if this version of Turnout cannot read it.
        trace: The X-Turnout-Trace of the request that brought it.

    """
    headers = [
        (REASON_HEADER, reason.encode()),
        (DETAIL_HEADER, _clean(detail)),
        (SOURCE_HEADER, _clean(source)),
        (FROM_HEADER, orjson.dumps(tuple(origin) if origin else None)),
        (VERSION_HEADER, b"%d" % REJECTED_VERSION),
    ]
    if version is not None:
        headers.append((FORMAT_HEADER, version[:LONGEST_TEXT]))
    if trace is not None:
        headers.append((TRACE_HEADER, trace))
    return headers


def _clean(text: str) -> bytes:
    return text[:LONGEST_TEXT].encode(errors="replace")


class Rejected(NamedTuple):
    """A record of the rejected topic as its reader sees it.

    `value` is the event, byte for byte. `version` is its format version if it was rejected because of that.
    """

    reason: str
    detail: str
    source: str
    origin: Origin | None
    key: bytes | None
    value: bytes | None
    version: bytes | None = None

    @classmethod
    def decode(cls, key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes]]) -> "Rejected":
        """The rejected event in a record; raises RecordError."""
        found = dict(headers)
        check_version(headers, REJECTED_VERSION)
        try:
            origin = orjson.loads(found[FROM_HEADER])
            return cls(
                found[REASON_HEADER].decode(),
                found[DETAIL_HEADER].decode(),
                found[SOURCE_HEADER].decode(),
                _origin(origin) if origin else None,
                key,
                value,
                found.get(FORMAT_HEADER),
            )
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise RecordError(f"a rejected record lacks a header: {error}") from error


class Handled(NamedTuple):
    """A record without a value in the topics of dead letters and rejected events: what was done about others.

    `how` is `replayed` or `dropped`; `offsets` are of the record's own partition.
    """

    how: str
    offsets: Sequence[int]

    def headers(self) -> Headers:
        """As the record has them."""
        return [(HANDLED_HEADER, orjson.dumps(tuple(self))), (VERSION_HEADER, b"%d" % HANDLED_VERSION)]

    @classmethod
    def decode(cls, headers: Iterable[tuple[str, bytes]]) -> "Handled | None":
        """What a record's headers say, None where the record is something else; raises RecordError."""
        value = dict(headers).get(HANDLED_HEADER)
        if value is None:
            return None
        check_version(headers, HANDLED_VERSION)
        try:
            how, offsets = orjson.loads(value)
            return cls(how, [int(offset) for offset in offsets])
        except (ValueError, TypeError) as error:
            raise RecordError(f"a note of what was handled cannot be read: {error}") from error


def check_version(headers: Iterable[tuple[str, bytes | None]], newest: int | None = None) -> None:
    """Check the format version in a record's headers; without the header it is version 1.

    Args:
        headers: The record's headers.
        newest: The newest version of the record type that this code reads, by default that of events.

    Raises:
        NewerFormatError: The version is newer than this reader.
        RecordError: The version is not a number.

    """
    for name, value in headers:
        if name == VERSION_HEADER and value != _OLDEST_FORMAT:
            if not value or not value.isdigit():
                raise RecordError("the format version of a record is not a number")
            newest = EVENT_VERSION if newest is None else newest
            # Python refuses to read a number of more than 4,300 digits.
            if len(value) > VERSION_DIGITS or int(value) > newest:
                raise NewerFormatError(value[:VERSION_DIGITS].decode(), newest)


def _decode(value: bytes | None, newest: int) -> dict[str, Any]:
    try:
        data = orjson.loads(value or b"")
    except orjson.JSONDecodeError as error:
        raise RecordError(f"a record is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise RecordError("a record is not a JSON object")
    version = data.get("v")
    if not isinstance(version, int):
        raise RecordError("a record has no format version")
    if version > newest:
        raise NewerFormatError(version, newest)
    return data


def intervals(offsets: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Ascending offsets as closed intervals: 1 2 3 7 gives (1, 3) and (7, 7)."""
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
