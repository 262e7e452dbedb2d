"""Follow events through the topics, and report what each integration received, or why not."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from deploy.config.configuration import Configuration
from deploy.config.integrations import Integration
from streams.kafka.admin import find_partitions
from streams.kafka.settings import Broker, BrokerError
from streams.observability.internal_error import to_exception
from streams.parsing.lenient_json import read_object
from streams.records.delivery import DeliveryRecord
from streams.records.event import Origin, valid_trace
from streams.records.format import SOURCE_HEADER, TRACE_HEADER
from streams.records.outcomes import FORWARDED, NOTED, Outcome, Outcomes
from streams.records.rejected import QUARANTINED_REASON, Rejected
from streams.topics import Topics

OUTCOME_TIMEOUT_SECONDS = 3.0
"""Seconds after which an event is shown even if outcomes are missing."""

MAX_OPEN_EVENTS = 4000
"""The maximum number of events with missing outcomes; beyond it, the oldest are shown as they are."""

MAX_FETCHED_BYTES = 4 * 1024 * 1024
"""The maximum bytes that one answer of Kafka brings, which bounds the memory for records that are not read yet."""

REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class LiveFilter:
    """Which events and outcomes to show; each empty set matches all.

    Args:
        sources: Names of sources.
        events: Names of track events, pages and screens, or types of calls.
        users: IDs, each a userId or an anonymousId.
        traces: The X-Turnout-Trace of the events' requests.
        integrations: Names of integrations. With any, rejected events are not shown: no integration gets them.
        outcomes: Outcomes; `rejected` and `quarantined` are also those of events that no integration gets.

    """

    sources: frozenset[str] = frozenset()
    events: frozenset[str] = frozenset()
    users: frozenset[str] = frozenset()
    traces: frozenset[str] = frozenset()
    integrations: frozenset[str] = frozenset()
    outcomes: frozenset[str] = frozenset()

    def matches_event(self, event: Mapping[str, Any], source: str, trace: str) -> bool:
        """Return whether an event is shown, regardless of its outcomes."""
        return (
            (not self.sources or source in self.sources)
            and (not self.traces or trace in self.traces)
            and (not self.events or any(_is_in(event.get(key), self.events) for key in ("event", "name", "type")))
            and (not self.users or any(_is_in(event.get(key), self.users) for key in ("userId", "anonymousId")))
        )

    def matches_outcome(self, outcome: str) -> bool:
        """Return whether an outcome is shown."""
        return not self.outcomes or outcome in self.outcomes

    def matches_seen(self, seen: "SeenEvent") -> bool:
        """Return whether an event with its outcomes so far is shown."""
        if not self.matches_event(seen.event or {}, seen.source, seen.trace):
            return False
        return not self.outcomes or any(
            row.outcome in self.outcomes and row.integration in (self.integrations or (row.integration,))
            for row in seen.rows.values()
        )

    def matches_rejected(self, rejected: Rejected) -> bool:
        """Return whether a rejected event is shown."""
        reason = rejected.reason if rejected.reason == QUARANTINED_REASON else REJECTED
        if self.integrations or not self.matches_outcome(reason):
            return False
        event = read_rejected_event(rejected) if self.events or self.users else {}
        return self.matches_event(event, rejected.source, _text(valid_trace(rejected.trace)))


def _is_in(value: object, names: frozenset[str]) -> bool:
    return isinstance(value, str | int) and str(value) in names


@dataclass
class OutcomeRow:
    """The outcome of an event for one integration and rule."""

    integration: str
    rule: str
    outcome: str
    reason: str = ""
    payload: Mapping[str, Any] | None = None


@dataclass
class SeenEvent:
    """The records about an event so far; `event` is None until its own record is read."""

    origin: Origin | None = None
    source: str = ""
    trace: str = ""
    event: Mapping[str, Any] | None = None
    since: float = field(default_factory=monotonic)
    rows: dict[tuple[str, str], OutcomeRow] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    reported: set[tuple[str, str]] = field(default_factory=set)
    is_reported: bool = False
    is_rejected: bool = False

    def pending(self, integrations: Iterable[str]) -> list[str]:
        """Return the integrations without a final outcome."""
        known = {integration for integration, _ in self.rows}
        waiting = {row.integration for row in self.rows.values() if row.outcome == FORWARDED}
        return [name for name in integrations if name not in known or name in waiting]

    def unreported(self) -> list[OutcomeRow]:
        """Return the final outcomes that are not reported yet."""
        return [row for key, row in self.rows.items() if row.outcome != FORWARDED and key not in self.reported]


Update = tuple[SeenEvent, Sequence[OutcomeRow], Sequence[str]]
"""An event, its new outcomes, and the integrations without an outcome."""


def update_data(update: Update) -> dict[str, Any]:
    """Return an update as JSON data."""
    seen, rows, pending = update
    event = seen.event or {}
    return {
        "source": seen.source or None,
        "trace": seen.trace or None,
        "place": list(seen.origin) if seen.origin else None,
        "event": event,
        "notes": seen.notes,
        "outcomes": [
            {
                "integration": row.integration,
                "rule": row.rule or None,
                "outcome": row.outcome,
                "reason": row.reason,
                "payload": row.payload,
            }
            for row in rows
        ],
        "waiting": list(pending),
    }


def rejected_data(rejected: Rejected) -> dict[str, Any]:
    """Return a rejected event as JSON data; `event` is its text."""
    return {
        "source": rejected.source or None,
        "place": list(rejected.origin) if rejected.origin else None,
        REJECTED: rejected.reason,
        "detail": rejected.detail,
        "event": (rejected.value or b"").decode(errors="replace"),
    }


def read_rejected_event(rejected: Rejected) -> Mapping[str, Any]:
    """Return a rejected event; empty if it is not a JSON object."""
    return read_object(rejected.value) or {}


class LiveView:
    """Combine the records about an event from several topics, in any order.

    Args:
        topics: The topics of this environment.
        integrations: The integrations, by name.
        read: External topics, and the sources that read them.
        only: Which events and outcomes to show; no others are kept in memory.
        payloads: Whether to read what integrations receive. Without, the topics with deliveries are not read.

    """

    def __init__(
        self,
        topics: Topics,
        integrations: Mapping[str, Integration],
        read: Mapping[str, str] | None = None,
        only: LiveFilter | None = None,
        *,
        payloads: bool = True,
    ) -> None:
        self._topics, self._only, self._payloads = topics, only or LiveFilter(), payloads
        self._seen: dict[Origin, SeenEvent] = {}
        self._changed: dict[Origin, None] = {}
        self._began: deque[tuple[float, Origin]] = deque()
        self._overdue: list[SeenEvent] = []
        self._last_read: dict[tuple[str, int], int] = {}
        self._rejected: list[Rejected] = []
        self.follow(integrations, read)

    def follow(self, integrations: Mapping[str, Integration], read: Mapping[str, str] | None = None) -> None:
        """Show the outcomes of these integrations from now on; `read` is the same as in the constructor."""
        topics = self._topics
        self._sources = {topics.events: "", **(read or {})}
        chosen = [name for name in integrations if name in (self._only.integrations or integrations)]
        self._chosen = frozenset(chosen)
        self._active = [name for name in chosen if integrations[name].state == "active"]
        forward = map(topics.forward, chosen) if self._payloads else ()
        self.names = [*self._sources, topics.rejected, topics.outcomes, *forward]

    def updates(self, now: float) -> Iterator[Update]:
        """Yield the updates due at `now` (monotonic): complete events, events after the timeout, later outcomes."""
        while self._began and now - self._began[0][0] > OUTCOME_TIMEOUT_SECONDS:
            self._changed[self._began.popleft()[1]] = None
        for seen in self._overdue:
            yield from self._report(seen, seen.pending(self._active))
        self._overdue.clear()
        open_ones = [(origin, self._seen[origin]) for origin in self._changed if origin in self._seen]
        changed = [(origin, seen) for origin, seen in open_ones if seen.event is not None]
        self._changed.clear()
        for origin, seen in sorted(changed, key=lambda each: each[1].since):
            if seen.is_rejected:
                del self._seen[origin]
                continue
            pending = seen.pending(self._active)
            if not pending or now - seen.since > OUTCOME_TIMEOUT_SECONDS:
                yield from self._report(seen, pending)
            if not pending:
                del self._seen[origin]

    def _report(self, seen: SeenEvent, pending: Sequence[str]) -> Iterator[Update]:
        """Yield the update about an event, if there is anything new to show."""
        rows = [row for row in seen.unreported() if self._only.matches_outcome(row.outcome)]
        is_first = not seen.is_reported and not self._only.outcomes and not self._only.integrations
        if rows or is_first or (pending and not seen.is_reported and not self._only.outcomes):
            yield seen, rows, () if self._only.outcomes else pending
            seen.reported |= {(row.integration, row.rule) for row in rows}
            seen.is_reported = True

    def rejected(self) -> list[Rejected]:
        """Return the events rejected since the last call."""
        rejected, self._rejected = self._rejected, []
        return rejected

    def read(self, topic: str, record: Any) -> None:
        """Add a record; unreadable ones are skipped."""
        try:
            if topic in self._sources:
                self._read_event(topic, record)
            elif topic == self._topics.rejected:
                self._read_rejected(record)
            elif topic == self._topics.outcomes:
                self._read_outcomes(Outcomes.decode(record.value))
            else:
                delivery = DeliveryRecord.decode(record.value)
                name = topic.removeprefix(self._topics.forward(""))
                self._add_outcome(delivery.origin, OutcomeRow(name, delivery.rule, FORWARDED, payload=delivery.payload))
        except BaseException as error:  # noqa: BLE001  # one bad record must not stop the display
            to_exception(error)
            return

    def _read_event(self, topic: str, record: Any) -> None:
        origin = Origin(topic, record.partition, record.offset)
        # Until here, others may have created the entry; from here on, the event is open, finished or not shown.
        known = self._seen.get(origin)
        self._last_read[topic, record.partition] = record.offset
        event = read_object(record.value)
        headers = dict(record.headers)
        source = self._sources[topic] or _text(headers.get(SOURCE_HEADER))
        trace = _text(valid_trace(headers.get(TRACE_HEADER)))
        if event is None or not self._only.matches_event(event, source, trace):
            self._seen.pop(origin, None)
            return
        seen = known or self._open(origin)
        seen.event, seen.source, seen.trace = event, source, trace
        self._changed[origin] = None

    def _read_rejected(self, record: Any) -> None:
        rejected = Rejected.decode(record.key, record.value, record.headers)
        if rejected.origin is not None and (seen := self._find(rejected.origin)):
            seen.is_rejected = True
        if self._only.matches_rejected(rejected):
            self._rejected.append(rejected)

    def _read_outcomes(self, outcomes: Outcomes) -> None:
        for it in outcomes.named:
            origin = Origin(outcomes.topic, outcomes.partition, it.offset)
            reason = ": ".join(filter(None, [it.reason, it.detail]))
            if it.outcome == NOTED:
                if seen := self._find(origin):
                    seen.notes.append(reason)
            else:
                # The interval may be in another record.
                self._add_outcome(origin, OutcomeRow(it.integration, it.rule, it.outcome, reason))
        for span in outcomes.spans:
            # Older events would be dropped at once.
            for offset in range(max(span.first, span.last - MAX_OPEN_EVENTS + 1), span.last + 1):
                origin = Origin(outcomes.topic, outcomes.partition, offset)
                self._add_outcome(origin, OutcomeRow(span.integration, span.rule, span.outcome, span.detail))

    def _add_outcome(self, origin: Origin, row: OutcomeRow) -> None:
        if row.integration not in self._chosen or (seen := self._find(origin)) is None:
            return
        known = seen.rows.setdefault((row.integration, row.rule), row)
        known.payload = known.payload or row.payload
        if row.outcome != FORWARDED and known.outcome != Outcome.DELIVERED:
            known.reason = row.reason or (known.reason if known.outcome == row.outcome else "")
            known.outcome = row.outcome

    def _find(self, origin: Origin) -> SeenEvent | None:
        """Return the entry of an event to change it; None if the event is finished, or not shown."""
        seen = self._seen.get(origin)
        if seen is None and origin.offset > self._last_read.get((origin.topic, origin.partition), -1):
            seen = self._open(origin)
        if seen is not None:
            self._changed[origin] = None
        return seen

    def _open(self, origin: Origin) -> SeenEvent:
        seen = self._seen[origin] = SeenEvent(origin)
        self._began.append((seen.since, origin))
        if len(self._seen) > MAX_OPEN_EVENTS:
            oldest = self._seen.pop(next(iter(self._seen)))
            if oldest.event is not None and not oldest.is_rejected:
                self._overdue.append(oldest)
        while len(self._began) > MAX_OPEN_EVENTS:
            self._began.popleft()
        return seen


def _text(value: bytes | None) -> str:
    return (value or b"").decode(errors="replace")


class Watch:
    """Reads the topics of a view from their current ends on, and added topics from their beginning."""

    def __init__(self, broker: Broker, view: LiveView) -> None:
        self._broker, self._view = broker, view
        self._parts: set[TopicPartition] = set()
        self._added: set[TopicPartition] = set()
        self._consumer: Any = None

    async def start(self, partitions: Mapping[str, int]) -> None:
        """Connect and seek to the end of the topics, given their numbers of partitions; raises BrokerError."""
        self._parts = self._parts_of(partitions)
        self._consumer = AIOKafkaConsumer(
            **self._broker.consumer(), enable_auto_commit=False, fetch_max_bytes=MAX_FETCHED_BYTES
        )
        try:
            await self._consumer.start()
            self._consumer.assign(list(self._parts))
            await self._consumer.seek_to_end(*self._parts)
            for part in self._parts:
                await self._consumer.position(part)
        except KafkaError as error:
            raise BrokerError(f"cannot watch the topics: {error}".splitlines()[0]) from error

    def add(self, partitions: Mapping[str, int]) -> None:
        """Also read the topics that the view has now, given their numbers of partitions."""
        self._added |= self._parts_of(partitions) - self._parts

    async def follow(self) -> AsyncIterator[Update | Rejected]:
        """Yield updates and rejected events as they arrive; a slow reader delays reading, but nothing is left out."""
        while True:
            if self._added:
                await self._take_added()
            for tp, records in (await self._consumer.getmany(timeout_ms=200, max_records=1000)).items():
                for record in records:
                    self._view.read(tp.topic, record)
            for rejected in self._view.rejected():
                yield rejected
            for update in self._view.updates(monotonic()):
                yield update

    async def run(self, show_update: Callable[[Update], None], show_rejected: Callable[[Rejected], None]) -> None:
        """Call `show_update` and `show_rejected` for events until cancelled."""
        async for each in self.follow():
            if isinstance(each, Rejected):
                show_rejected(each)
            else:
                show_update(each)

    def _parts_of(self, partitions: Mapping[str, int]) -> set[TopicPartition]:
        names = self._view.names
        return {TopicPartition(name, number) for name in names for number in range(partitions.get(name, 0))}

    async def _take_added(self) -> None:
        """Also read the added partitions; the others keep their positions."""
        positions = {part: await self._consumer.position(part) for part in self._parts}
        self._parts |= self._added
        self._added = set()
        self._consumer.assign(list(self._parts))
        new = self._parts - positions.keys()
        for part, position in positions.items():
            self._consumer.seek(part, position)
        await self._consumer.seek_to_beginning(*new)

    async def stop(self) -> None:
        """Disconnect, if it was started."""
        if self._consumer is not None:
            await self._consumer.stop()


@asynccontextmanager
async def open_watch(configuration: Configuration, only: LiveFilter, *, payloads: bool = True) -> AsyncIterator[Watch]:
    """Follow the events of a configuration from now on, inside an `async with` block; raises BrokerError.

    The arguments `only` and `payloads` are those of LiveView.
    """
    broker, topics = configuration.settings.broker, configuration.topics
    read = {topic: source.source for source in configuration.source_files.values() for topic in source.topics}
    view = LiveView(topics, configuration.integrations, read, only, payloads=payloads)
    partitions = await asyncio.to_thread(find_partitions, broker, configuration.declared)
    if missing := [name for name in view.names if name not in partitions]:
        raise BrokerError(f"topic {missing[0]} is missing (create it with: turnout topics --create)")
    watch = Watch(broker, view)
    try:
        await watch.start(partitions)
        yield watch
    finally:
        with suppress(KafkaError):
            await watch.stop()
