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
"""Seconds after which an event is shown although some integration has not answered yet."""

MAX_OPEN_EVENTS = 1000
"""Events whose outcomes are waited for; of those beyond, the oldest are forgotten."""


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
    """What is known by now of an event; `event` is None as long as only others spoke of it, `notes` are remarks."""

    source: str = ""
    event: Mapping[str, Any] | None = None
    since: float = field(default_factory=monotonic)
    fates: dict[tuple[str, str], OutcomeRow] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    told: set[tuple[str, str]] = field(default_factory=set)
    is_told: bool = False
    is_rejected: bool = False

    def pending(self, integrations: Iterable[str]) -> list[str]:
        """The integrations that have not answered."""
        known = {integration for integration, _ in self.fates}
        waiting = {fate.integration for fate in self.fates.values() if fate.outcome == FORWARDED}
        return [name for name in integrations if name not in known or name in waiting]

    def news(self) -> list[OutcomeRow]:
        """The outcomes that have not been told."""
        return [fate for key, fate in self.fates.items() if fate.outcome != FORWARDED and key not in self.told]


Update = tuple[SeenEvent, Sequence[OutcomeRow], Sequence[str]]
"""An event, what is newly known to have become of it, and the integrations that have not answered yet."""


class LiveView:
    """Combine the records about an event from several topics, in any order."""

    def __init__(
        self, topics: Topics, integrations: Mapping[str, Integration], read: Mapping[str, str] | None = None
    ) -> None:
        """`read` are topics of others, each with the source that reads it."""
        self._topics = topics
        self._sources = {topics.events: "", **(read or {})}
        self._active = [name for name, integration in integrations.items() if integration.state == "active"]
        self._seen: dict[Origin, SeenEvent] = {}
        self._rejected: list[Rejected] = []
        self.names = [*self._sources, topics.rejected, topics.outcomes, *map(topics.forward, integrations)]

    def news(self, now: float) -> Iterator[Update]:
        """What is to be told now (monotonic): an event when all have answered or after PATIENCE, then the rest."""
        for origin, seen in list(self._seen.items()):
            if seen.event is None:
                continue
            if seen.is_rejected:
                del self._seen[origin]
                continue
            pending, news = seen.pending(self._active), seen.news()
            if not pending or (now - seen.since > OUTCOME_TIMEOUT_SECONDS and (news or not seen.is_told)):
                yield seen, news, pending
                seen.told |= {(fate.integration, fate.rule) for fate in news}
                seen.is_told = True
            if not pending:
                del self._seen[origin]

    def rejected(self) -> list[Rejected]:
        """What was rejected since it was last asked."""
        rejected, self._rejected = self._rejected, []
        return rejected

    def read(self, topic: str, record: Any) -> None:
        """Take in a record; one that cannot be read is passed over."""
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
                self._note(delivery.origin, OutcomeRow(name, delivery.rule, FORWARDED, payload=delivery.payload))
        except BaseException as error:  # noqa: BLE001  # whatever it is, the display of the others goes on
            to_exception(error)
            return

    def _read_event(self, topic: str, record: Any) -> None:
        try:
            event = orjson.loads(record.value or b"")
        except orjson.JSONDecodeError:
            return
        if isinstance(event, dict):
            seen = self._of(Origin(topic, record.partition, record.offset))
            seen.event = event
            stated = (dict(record.headers).get(SOURCE_HEADER) or b"").decode(errors="replace")
            seen.source = self._sources[topic] or stated

    def _read_rejected(self, rejected: Rejected) -> None:
        if rejected.origin is not None:
            self._of(rejected.origin).is_rejected = True
        self._rejected.append(rejected)

    def _read_outcomes(self, outcomes: Outcomes) -> None:
        for it in outcomes.named:
            origin = Origin(outcomes.topic, outcomes.partition, it.offset)
            reason = ": ".join(filter(None, [it.reason, it.detail]))
            if it.outcome == NOTED:
                self._of(origin).notes.append(reason)
            else:
                # Its interval may be in another record.
                self._note(origin, OutcomeRow(it.integration, it.rule, it.outcome, reason))
        for span in outcomes.spans:
            # More than is kept open is not worth unfolding.
            for offset in range(max(span.first, span.last - MAX_OPEN_EVENTS + 1), span.last + 1):
                origin = Origin(outcomes.topic, outcomes.partition, offset)
                self._note(origin, OutcomeRow(span.integration, span.rule, span.outcome, span.detail))

    def _note(self, origin: Origin, fate: OutcomeRow) -> None:
        fates = self._of(origin).fates
        known = fates.setdefault((fate.integration, fate.rule), fate)
        known.payload = known.payload or fate.payload
        if fate.outcome != FORWARDED and known.outcome != Outcome.DELIVERED:
            known.reason = fate.reason or (known.reason if known.outcome == fate.outcome else "")
            known.outcome = fate.outcome

    def _of(self, origin: Origin) -> SeenEvent:
        seen = self._seen.setdefault(origin, SeenEvent())
        if len(self._seen) > MAX_OPEN_EVENTS:
            del self._seen[next(iter(self._seen))]
        return seen


class Watch:
    """Follows the topics of a trail, which have so many partitions, from their present ends on."""

    def __init__(self, broker: Broker, partitions: Mapping[str, int], view: LiveView) -> None:
        self._view = view
        self._parts = [TopicPartition(name, number) for name in view.names for number in range(partitions[name])]
        self._consumer = AIOKafkaConsumer(**broker.consumer(), enable_auto_commit=False)

    async def start(self) -> None:
        """Connect, and stand at the end of the topics; raises BrokerError."""
        try:
            await self._consumer.start()
            self._consumer.assign(self._parts)
            await self._consumer.seek_to_end(*self._parts)
            for part in self._parts:
                await self._consumer.position(part)
        except KafkaError as error:
            raise BrokerError(f"cannot watch the topics: {error}".splitlines()[0]) from error

    async def run(self, tell: Callable[[Update], None], tell_rejected: Callable[[Rejected], None]) -> None:
        """Tell of events until cancelled."""
        while True:
            for tp, records in (await self._consumer.getmany(timeout_ms=200)).items():
                for record in records:
                    self._view.read(tp.topic, record)
            for rejected in self._view.rejected():
                tell_rejected(rejected)
            for news in self._view.news(monotonic()):
                tell(news)

    async def stop(self) -> None:
        """Disconnect."""
        await self._consumer.stop()
