"""Follow events through the topics, and report what each integration received, or why not."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from deploy.config.integrations import Integration
from streams.kafka.settings import Broker, BrokerError
from streams.observability.internal_error import to_exception
from streams.records.delivery import DeliveryRecord
from streams.records.event import Origin
from streams.records.format import SOURCE_HEADER
from streams.records.outcomes import FORWARDED, NOTED, Outcome, Outcomes
from streams.records.rejected import Rejected
from streams.topics import Topics

OUTCOME_TIMEOUT_SECONDS = 3.0
"""Seconds after which an event is shown even if outcomes are missing."""

MAX_OPEN_EVENTS = 1000
"""The maximum number of events with missing outcomes; beyond it, the oldest are dropped."""


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

    source: str = ""
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


class LiveView:
    """Combine the records about an event from several topics, in any order."""

    def __init__(
        self, topics: Topics, integrations: Mapping[str, Integration], read: Mapping[str, str] | None = None
    ) -> None:
        """`read` maps external topics to the sources that read them."""
        self._topics = topics
        self._seen: dict[Origin, SeenEvent] = {}
        self._rejected: list[Rejected] = []
        self.follow(integrations, read)

    def follow(self, integrations: Mapping[str, Integration], read: Mapping[str, str] | None = None) -> None:
        """Show the outcomes of these integrations from now on; `read` is as at the start."""
        topics = self._topics
        self._sources = {topics.events: "", **(read or {})}
        self._active = [name for name, integration in integrations.items() if integration.state == "active"]
        self.names = [*self._sources, topics.rejected, topics.outcomes, *map(topics.forward, integrations)]

    def updates(self, now: float) -> Iterator[Update]:
        """Yield the updates due at `now` (monotonic): complete events, events after the timeout, later outcomes."""
        for origin, seen in list(self._seen.items()):
            if seen.event is None:
                continue
            if seen.is_rejected:
                del self._seen[origin]
                continue
            pending, new_rows = seen.pending(self._active), seen.unreported()
            if not pending or (now - seen.since > OUTCOME_TIMEOUT_SECONDS and (new_rows or not seen.is_reported)):
                yield seen, new_rows, pending
                seen.reported |= {(row.integration, row.rule) for row in new_rows}
                seen.is_reported = True
            if not pending:
                del self._seen[origin]

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
                self._read_rejected(Rejected.decode(record.key, record.value, record.headers))
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
        try:
            event = orjson.loads(record.value or b"")
        except orjson.JSONDecodeError:
            return
        if isinstance(event, dict):
            seen = self._seen_event(Origin(topic, record.partition, record.offset))
            seen.event = event
            stated = (dict(record.headers).get(SOURCE_HEADER) or b"").decode(errors="replace")
            seen.source = self._sources[topic] or stated

    def _read_rejected(self, rejected: Rejected) -> None:
        if rejected.origin is not None:
            self._seen_event(rejected.origin).is_rejected = True
        self._rejected.append(rejected)

    def _read_outcomes(self, outcomes: Outcomes) -> None:
        for it in outcomes.named:
            origin = Origin(outcomes.topic, outcomes.partition, it.offset)
            reason = ": ".join(filter(None, [it.reason, it.detail]))
            if it.outcome == NOTED:
                self._seen_event(origin).notes.append(reason)
            else:
                # The interval may be in another record.
                self._add_outcome(origin, OutcomeRow(it.integration, it.rule, it.outcome, reason))
        for span in outcomes.spans:
            # Older events would be dropped at once.
            for offset in range(max(span.first, span.last - MAX_OPEN_EVENTS + 1), span.last + 1):
                origin = Origin(outcomes.topic, outcomes.partition, offset)
                self._add_outcome(origin, OutcomeRow(span.integration, span.rule, span.outcome, span.detail))

    def _add_outcome(self, origin: Origin, row: OutcomeRow) -> None:
        rows = self._seen_event(origin).rows
        known = rows.setdefault((row.integration, row.rule), row)
        known.payload = known.payload or row.payload
        if row.outcome != FORWARDED and known.outcome != Outcome.DELIVERED:
            known.reason = row.reason or (known.reason if known.outcome == row.outcome else "")
            known.outcome = row.outcome

    def _seen_event(self, origin: Origin) -> SeenEvent:
        seen = self._seen.setdefault(origin, SeenEvent())
        if len(self._seen) > MAX_OPEN_EVENTS:
            del self._seen[next(iter(self._seen))]
        return seen


class Watch:
    """Reads the topics of a view from their current ends on, and topics that are added from their beginning."""

    def __init__(self, broker: Broker, view: LiveView) -> None:
        self._broker, self._view = broker, view
        self._parts: set[TopicPartition] = set()
        self._added: set[TopicPartition] = set()
        self._consumer: Any = None

    async def start(self, partitions: Mapping[str, int]) -> None:
        """Connect and seek to the end of the topics, given their numbers of partitions; raises BrokerError."""
        self._parts = self._parts_of(partitions)
        self._consumer = AIOKafkaConsumer(**self._broker.consumer(), enable_auto_commit=False)
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

    async def run(self, show_update: Callable[[Update], None], show_rejected: Callable[[Rejected], None]) -> None:
        """Call `show_update` and `show_rejected` for events until cancelled."""
        while True:
            if self._added:
                await self._take_added()
            for tp, records in (await self._consumer.getmany(timeout_ms=200)).items():
                for record in records:
                    self._view.read(tp.topic, record)
            for rejected in self._view.rejected():
                show_rejected(rejected)
            for new_rows in self._view.updates(monotonic()):
                show_update(new_rows)

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
