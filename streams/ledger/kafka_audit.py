"""Run the audit with Kafka's side: committed offsets, waiting deliveries, and the records in gaps."""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from time import monotonic, time
from types import TracebackType
from typing import Any, Self

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, KafkaTimeoutError

from streams.kafka.client import complete_ends
from streams.kafka.reading import partitions_of, read_to_end
from streams.kafka.settings import Broker, BrokerError
from streams.kafka.timestamps import known_offsets
from streams.ledger.audit import AuditReport, BehindError, Integrations, KafkaBounds, audit, check_position, resolve
from streams.ledger.bit_sets import BitSets
from streams.ledger.store import Partition, Reader
from streams.records.format import RecordError
from streams.records.recorded_rules import RecordedRules
from streams.topics import Topics

DAY_MS = 24 * 3600 * 1000
NEAR = 2000
"""Offsets up to which reading on is faster than seeking."""


POLL_SECONDS = 0.2
READ_TIMEOUT_SECONDS = 60.0
"""Seconds without any record, although Kafka has some, after which it counts as away."""


async def audit_with_kafka(
    reader: Reader,
    kafka: "KafkaAuditor",
    since_ms: int,
    until_ms: int | None = None,
    *,
    recorded: "RecordedIntegrations | None" = None,
    patience: float = 30.0,
) -> AuditReport:
    """Audit the events with record times in a period, in milliseconds since 1970.

    Args:
        reader: The ledger, whose ingester must be running.
        kafka: Reads the offsets and records in Kafka.
        since_ms: The beginning; events that Kafka or the ledger no longer has are left out.
        until_ms: The end, by default the router's committed offset.
        recorded: Returns the integrations of each version of the rules.
        patience: Seconds to wait until the ledger has read the outcomes that Kafka has.

    Raises:
        BehindError: The ledger did not read them in time.
        BrokerError: Kafka does not answer.

    """
    bounds = await current_bounds(reader, kafka, since_ms, until_ms, patience)
    # A router records its rules before it uses them: those of the events within the bounds are there now.
    integrations = await recorded.read() if recorded else _unknown
    report = await asyncio.to_thread(audit, reader, bounds, integrations)
    records = {partition: await kafka.find_records(partition, gaps) for partition, gaps in report.gaps.items()}
    resolve(report, lambda partition, _: records[partition])
    return report


async def current_bounds(
    reader: Reader, kafka: "KafkaAuditor", since_ms: int, until_ms: int | None = None, patience: float = 30.0
) -> KafkaBounds:
    """Return the state of Kafka once the ledger has read the outcomes that Kafka has; see `audit_with_kafka`."""
    bounds = await kafka.bounds(since_ms, until_ms)
    deadline = monotonic() + patience
    while True:
        try:
            check_position(reader, bounds.needed)
        except BehindError:
            if monotonic() > deadline:
                raise
            await asyncio.sleep(POLL_SECONDS)
        else:
            return bounds


class RecordedIntegrations:
    """Reads the integrations of each version of the rules from the topic `rulesets`, and caches them."""

    def __init__(self, broker: Broker, topic: str) -> None:
        self._broker, self._part = broker, TopicPartition(topic, 0)
        self._next = 0
        self._found: dict[str, Collection[str]] = {}

    async def read(self) -> Integrations:
        """Read new records, and return the integrations by version; raises BrokerError."""
        consumer = AIOKafkaConsumer(**self._broker.consumer(), group_id=None, enable_auto_commit=False)
        try:
            await consumer.start()
            if self._part.topic in await consumer.topics():
                await self._catch_up(consumer)
        except (KafkaError, OSError, TimeoutError) as error:
            raise _broker_error(self._broker, error) from error
        finally:
            with suppress(KafkaError):
                await consumer.stop()
        return self._found.get

    async def _catch_up(self, consumer: AIOKafkaConsumer) -> None:
        consumer.assign([self._part])
        begin = (await consumer.beginning_offsets([self._part]))[self._part]
        consumer.seek(self._part, max(self._next, begin))
        async for records in read_to_end(consumer, self._part):
            for record in records:
                # A newer release may have written it; then the outcomes themselves say which integrations there are.
                with suppress(RecordError):
                    self._found[(record.key or b"").decode()] = RecordedRules.decode(record.value).integrations
        self._next = await consumer.position(self._part)


class KafkaAuditor:
    """Reads the offsets and records in Kafka, inside an `async with`; raises BrokerError.

    Args:
        broker: How to reach Kafka.
        topics: The topics of this environment.
        integrations: The names of all integrations that may have deliveries.
        external: External topics that sources read.

    """

    def __init__(
        self, broker: Broker, topics: Topics, integrations: Collection[str], external: Collection[str] = ()
    ) -> None:
        self._broker, self._topics = broker, topics
        self._integrations, self._external = integrations, external

    async def __aenter__(self) -> Self:
        self._consumer = AIOKafkaConsumer(**self._broker.consumer(), group_id=None, enable_auto_commit=False)
        try:
            await self._consumer.start()
        except (KafkaError, OSError) as error:
            await self._stop()
            raise self._error(error) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()
        if isinstance(error, KafkaError | OSError):
            raise self._error(error) from error

    async def _stop(self) -> None:
        with suppress(KafkaError):
            await self._consumer.stop()

    def _error(self, error: BaseException) -> BrokerError:
        return _broker_error(self._broker, error)

    async def bounds(self, since_ms: int, until_ms: int | None = None) -> KafkaBounds:
        """Return the bounds of an audit of the records in a period, in milliseconds since 1970.

        The order matters: an outcome is in Kafka before the offset of its delivery is committed.
        """
        events = self._parts(self._topics.events) + await partitions_of(self._consumer, self._external)
        committed = await self._committed(self._topics.router_group, events)
        positions: dict[str, Mapping[TopicPartition, int | None]] = {}
        for name in self._integrations:
            parts = [*self._parts(self._topics.forward(name)), *self._parts(self._topics.retry(name))]
            positions[name] = await self._committed(self._topics.forwarder_group(name), parts)
        ranges = await self._ranges(committed, since_ms, until_ms)
        waiting: dict[Partition, dict[tuple[str, str], BitSets]] = defaultdict(lambda: defaultdict(BitSets))
        for name, offsets in positions.items():
            await self._read_waiting(name, offsets, waiting)
        read = [
            part
            for topic in (self._topics.outcomes, self._topics.rejected, self._topics.dead)
            for part in self._parts(topic)
        ]
        needed = {(part.topic, part.partition): end for part, end in (await self._ends(read)).items()}
        in_flight = {
            partition: {key: dict(sets.blocks()) for key, sets in by_rule.items()}
            for partition, by_rule in waiting.items()
        }
        until = until_ms // 1000 if until_ms else int(time()) + DAY_MS // 1000
        return KafkaBounds(ranges, in_flight, needed, (since_ms // 1000, until))

    async def find_records(self, partition: Partition, gaps: Sequence[tuple[int, int]]) -> list[int]:
        """Return the offsets of the records that Kafka has in closed intervals of a partition."""
        part = TopicPartition(*partition)
        self._consumer.assign([part])
        self._fetched_at = monotonic()
        begin = (await self._consumer.beginning_offsets([part]))[part]
        end = (await self._ends([part]))[part]
        found: list[int] = []
        position = -NEAR
        pending: list[int] = []
        for first, last in gaps:
            start, stop = max(first, begin), min(last + 1, end)
            if stop <= start:
                continue
            if not 0 <= start - position < NEAR:
                self._consumer.seek(part, start)
                position, pending = start, []
            pending = [offset for offset in pending if offset >= start]
            while position < stop:
                pending += [record.offset for record in await self._fetch()]
                position = await self._consumer.position(part)
            found += [offset for offset in pending if start <= offset < stop]
        return found

    async def _fetch(self) -> list[Any]:
        """Return the next records, possibly none; raises KafkaError if none arrive for too long."""
        fetched = await self._consumer.getmany(timeout_ms=1000)
        if fetched:
            self._fetched_at = monotonic()
        elif monotonic() - self._fetched_at > READ_TIMEOUT_SECONDS:
            raise KafkaTimeoutError
        return [record for records in fetched.values() for record in records]

    async def _ends(self, parts: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        return await asyncio.to_thread(complete_ends, self._broker, await self._consumer.end_offsets(parts))

    def _parts(self, topic: str) -> list[TopicPartition]:
        return [TopicPartition(topic, number) for number in range(self._topics.partitions)]

    async def _committed(self, group: str, parts: Iterable[TopicPartition]) -> Mapping[TopicPartition, int | None]:
        consumer = AIOKafkaConsumer(**self._broker.consumer(), group_id=group, enable_auto_commit=False)
        try:
            await consumer.start()
            return {part: await consumer.committed(part) for part in parts}
        finally:
            await consumer.stop()

    async def _ranges(
        self, committed: Mapping[TopicPartition, int | None], since_ms: int, until_ms: int | None
    ) -> dict[Partition, tuple[int, int]]:
        parts = [part for part, offset in committed.items() if offset is not None]
        begins = await self._consumer.beginning_offsets(parts)
        firsts = await self._offsets_at(parts, since_ms)
        untils = await self._offsets_at(parts, until_ms) if until_ms else {}
        ranges = {}
        for part in parts:
            end = committed[part] or 0
            first = firsts.get(part, end)
            end = min(end, untils.get(part, end))
            ranges[part.topic, part.partition] = max(begins[part], min(first, end)), end
        return ranges

    async def _offsets_at(self, parts: Sequence[TopicPartition], at_ms: int) -> dict[TopicPartition, int]:
        return known_offsets(await self._consumer.offsets_for_times(dict.fromkeys(parts, at_ms))) if parts else {}

    async def _read_waiting(
        self, integration: str, positions: Mapping[TopicPartition, int | None], waiting: Any
    ) -> None:
        """Add the events whose deliveries are after the forwarder's committed offsets."""
        parts = list(positions)
        self._consumer.assign(parts)
        self._fetched_at = monotonic()
        begins, ends = await self._consumer.beginning_offsets(parts), await self._ends(parts)
        left = set()
        for part, offset in positions.items():
            start = max(begins[part], offset or 0)
            self._consumer.seek(part, start)
            if start < ends[part]:
                left.add(part)
        self._consumer.pause(*(part for part in parts if part not in left))
        while left:
            for record in await self._fetch():
                with suppress(ValueError, TypeError, KeyError):
                    data = orjson.loads(record.value)
                    topic, number, origin = data["from"]
                    waiting[topic, number][integration, str(data["rule"])].add(origin, origin)
            for part in list(left):
                if await self._consumer.position(part) >= ends[part]:
                    left.discard(part)
                    self._consumer.pause(part)


def _broker_error(broker: Broker, error: BaseException) -> BrokerError:
    return BrokerError(f"Kafka at {broker.bootstrap} does not answer: {error}".splitlines()[0])


def _unknown(_rules: str) -> None:
    """Return no integrations: none of the versions is known."""
