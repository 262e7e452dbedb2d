"""Record which deliveries retention removed before a forwarder read them."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streams.kafka.acks import PendingAcks
from streams.kafka.client import complete_ends
from streams.kafka.gaps import RECORD_SECONDS, Gap
from streams.kafka.producer import Producer
from streams.kafka.reading import read_to_end
from streams.kafka.settings import Broker
from streams.ledger.bit_sets import BitSets, joined, spans
from streams.observability.logging import error_fields
from streams.observability.metrics import DELIVERY_OUTCOMES
from streams.records.delivery import DeliveryRecord
from streams.records.format import RecordError
from streams.records.outcomes import MAX_OFFSET, RETENTION, LostDeliveries, Outcome, Outcomes, Stage
from streams.topics import Topics

log = structlog.get_logger()

FIRST_RECORDS = 10_000
"""Records left in a forward topic that are read to find the first event whose delivery is left.

Deliveries are in the order of their events, except those of a replay, which may be first.
"""

MAX_WAITING_INTERVALS = 20_000
"""How many intervals of waiting deliveries one record may have."""

Span = tuple[int, int]


@dataclass
class _Left:
    """The deliveries of one partition of events that Kafka still has; those before offset `end` are all in it."""

    end: int = 0
    by_rule: defaultdict[str, BitSets] = field(default_factory=lambda: defaultdict(BitSets))

    def add(self, delivery: DeliveryRecord) -> None:
        """Add a delivery."""
        self.by_rule[delivery.rule].add(delivery.origin.offset, delivery.origin.offset)


class LostDeliveriesRecorder:
    """Records the lost deliveries of one integration.

    A forwarder cannot know the events of records that it could not read. It writes which records were lost, and which
    deliveries are left in the forward and retry topic. The ledger has the forwarded deliveries, and derives the lost
    ones.
    """

    def __init__(self, integration: str, topics: Topics, broker: Broker, producer: Producer) -> None:
        self._integration, self._topics, self._broker, self._producer = integration, topics, broker, producer

    async def record(self, gap: Gap) -> None:
        """Write a gap in the forward or retry topic; returns once Kafka has stored it. Raises BrokerError, KafkaError.

        It reads all waiting retries of the partition. Deliveries that are in progress meanwhile count as lost until
        their outcome is recorded.
        """
        acks = PendingAcks()
        for (topic, partition), left in (await self._find_left(gap.partition)).items():
            for start, end, waiting in _parts(left):
                lost = LostDeliveries(
                    self._integration, RETENTION, gap.topic, gap.partition, gap.start, gap.end - 1, start, end, waiting
                )
                self._producer.append(
                    self._topics.outcomes,
                    gap.partition,
                    acks,
                    key=f"{topic}:{partition}".encode(),
                    value=Outcomes(Stage.FORWARDER, topic, partition, "", (), lost=[lost]).encode(),
                )
        await acks.confirmed(RECORD_SECONDS)
        DELIVERY_OUTCOMES.labels(self._integration, Outcome.LOST).inc(gap.records)

    async def _find_left(self, partition: int) -> dict[tuple[str, int], _Left]:
        """Return the deliveries left in a partition of both topics, by the topic and partition of their events."""
        forward = TopicPartition(self._topics.forward(self._integration), partition)
        retry = TopicPartition(self._topics.retry(self._integration), partition)
        events = TopicPartition(self._topics.events, partition)
        # Deliveries of events before the router's committed offset are in the forward topic, also those that are lost.
        routed = await self._find_routed(events)
        found: defaultdict[tuple[str, int], _Left] = defaultdict(_Left)
        found[events].end = 0
        group = self._topics.forwarder_group(self._integration)
        async with AIOKafkaConsumer(**self._broker.consumer(), group_id=group, enable_auto_commit=False) as consumer:
            number = 0
            async for delivery in self._read(consumer, forward, FIRST_RECORDS):
                number += 1
                left = found[delivery.origin[:2]]
                left.add(delivery)
                left.end = max(left.end, delivery.origin.offset + 1)
            if number < FIRST_RECORDS:
                found[events].end = max(found[events].end, routed)
            async for delivery in self._read(consumer, retry):
                found[delivery.origin[:2]].add(delivery)
        return found

    async def _find_routed(self, part: TopicPartition) -> int:
        """Return the offset that routers have committed, or 0 if it is unknown."""
        group = self._topics.router_group
        try:
            async with AIOKafkaConsumer(
                **self._broker.consumer(), group_id=group, enable_auto_commit=False
            ) as consumer:
                return await consumer.committed(part) or 0
        except KafkaError as error:
            log.warning("cannot read the offset of the routers", group=group, **error_fields(error))
            return 0

    async def _read(
        self, consumer: AIOKafkaConsumer, part: TopicPartition, most: int | None = None
    ) -> AsyncIterator[DeliveryRecord]:
        """Yield the deliveries of a partition from the committed offset to the end, at most `most`."""
        consumer.assign([part])
        begin = (await consumer.beginning_offsets([part]))[part]
        end = (await asyncio.to_thread(complete_ends, self._broker, await consumer.end_offsets([part])))[part]
        consumer.seek(part, max(begin, await consumer.committed(part) or 0))
        number = 0
        async for records in read_to_end(consumer, part, end):
            for record in records:
                with suppress(RecordError):
                    delivery = DeliveryRecord.decode(record.value)
                    if 0 <= delivery.origin.offset < MAX_OFFSET:
                        yield delivery
                number += 1
                if number == most:
                    return


def _parts(left: _Left) -> Iterator[tuple[int, int, Sequence[tuple[str, Sequence[Span]]]]]:
    """Yield the range of events as ranges with up to MAX_WAITING_INTERVALS intervals of waiting deliveries each."""
    waiting = sorted(
        (first, min(last, left.end - 1), rule)
        for rule, sets in left.by_rule.items()
        for first, last in _intervals(sets)
        if first < left.end
    )
    start = 0
    while len(waiting) > MAX_WAITING_INTERVALS:
        end = waiting[MAX_WAITING_INTERVALS][0]
        now = [each for each in waiting if each[0] < end]
        if now:
            yield start, end, _by_rule((first, min(last, end - 1), rule) for first, last, rule in now)
        # An interval that goes on after the end is in both parts.
        waiting = [(max(first, end), last, rule) for first, last, rule in waiting if last >= end]
        start = end
    yield start, left.end, _by_rule(waiting)


def _intervals(sets: BitSets) -> list[Span]:
    return joined(span for block, bits in sorted(sets.blocks()) for span in spans(block, bits))


def _by_rule(intervals: Iterable[tuple[int, int, str]]) -> list[tuple[str, list[Span]]]:
    found: defaultdict[str, list[Span]] = defaultdict(list)
    for first, last, rule in intervals:
        found[rule].append((first, last))
    return list(found.items())
