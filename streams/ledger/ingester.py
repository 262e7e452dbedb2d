"""Read outcomes, rejected events and dead letters from Kafka into a store.

The ingester assigns the partitions itself. Their offsets are in the store, in the same transaction as the data, so a
process killed at any moment continues where its data ends and counts nothing twice.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from time import monotonic

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streams.clock import time
from streams.kafka.client import complete_ends
from streams.kafka.settings import Broker, BrokerError
from streams.ledger.intake import RecordIntake
from streams.ledger.sampler import EventSampler
from streams.ledger.store import Partition, Store, StoreError
from streams.topics import Topics

log = structlog.get_logger()

COMMIT_EVENTS = 5000
COMMIT_SECONDS = 1.0
COMMIT_RECORDS = 20_000
FETCH_BYTES = 8 * 1024 * 1024
EXPIRE_SECONDS = 3600.0


class Ingester:
    """Keeps a store up to date with the topics.

    Args:
        broker: How to reach Kafka.
        topics: The topics of this environment.
        store: The store to write to.
        sampler: Samples events for the catalog, or None to keep no catalog.
        clock: Returns the time in seconds since 1970.

    """

    def __init__(
        self,
        broker: Broker,
        topics: Topics,
        store: Store,
        sampler: EventSampler | None = None,
        clock: Callable[[], float] = time,
    ) -> None:
        self._sampler = sampler
        self._broker, self._topics, self._store, self._clock = broker, topics, store, clock
        self._intake = RecordIntake(topics)
        self._stopping = asyncio.Event()
        self._committed_at = self._expired_at = float("-inf")

    def stop(self) -> None:
        """Make `run` end after the next commit."""
        self._stopping.set()

    @property
    def committed_at(self) -> float:
        """When the last batch was stored, by the monotonic clock."""
        return self._committed_at

    async def run(self) -> None:
        """Read and store until `stop`; raises BrokerError, StoreError or NewerFormatError."""
        consumer = AIOKafkaConsumer(
            **self._broker.consumer(),
            client_id=f"{self._topics.prefix}.ledger",
            group_id=None,
            enable_auto_commit=False,
            fetch_max_bytes=FETCH_BYTES,
        )
        sampling = asyncio.create_task(self._sampler.run()) if self._sampler else None
        try:
            await consumer.start()
            await self._assign(consumer)
            while not self._stopping.is_set():
                await self._read(consumer)
            await self._commit()
        except (KafkaError, OSError) as error:
            raise BrokerError(f"Kafka at {self._broker.bootstrap} does not answer: {error}".splitlines()[0]) from error
        finally:
            if sampling:
                sampling.cancel()
                await asyncio.gather(sampling, return_exceptions=True)
            with suppress(KafkaError):
                await consumer.stop()

    async def _assign(self, consumer: AIOKafkaConsumer) -> None:
        numbers = range(self._topics.partitions)
        parts = [TopicPartition(topic, number) for topic in self._intake.topics for number in numbers]
        consumer.assign(parts)
        stored = dict(self._store.offsets())
        begins = await consumer.beginning_offsets(parts)
        ends = await asyncio.to_thread(complete_ends, self._broker, await consumer.end_offsets(parts))
        for part in parts:
            offset = stored.get((part.topic, part.partition), 0)
            if offset > ends[part]:
                raise StoreError(
                    f"{part.topic}:{part.partition} ends at offset {ends[part]}, but the ledger has read up to"
                    f" {offset}: the topic was created again. Delete the ledger's folder to rebuild it from Kafka"
                )
            if 0 < offset < begins[part]:
                log.error(
                    "records were removed by retention before the ledger read them",
                    topic=part.topic,
                    partition=part.partition,
                    first=offset,
                    last=begins[part] - 1,
                )
            consumer.seek(part, max(offset, begins[part]))

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        wait = max(0.01, self._committed_at + COMMIT_SECONDS - monotonic())
        fetched = await consumer.getmany(
            timeout_ms=int(min(wait, COMMIT_SECONDS) * 1000), max_records=COMMIT_RECORDS // 10
        )
        for records in fetched.values():
            for record in records:
                self._intake.take(record)
                if self._intake.events >= COMMIT_EVENTS:
                    await self._commit()
        if monotonic() - self._committed_at >= COMMIT_SECONDS:
            for part in consumer.assignment():
                self._intake.skip_to((part.topic, part.partition), await consumer.position(part))
            await self._commit()

    async def _commit(self) -> None:
        batch = self._intake.finish()
        if self._sampler:
            batch.samples = self._sampler.take()
        self._committed_at = monotonic()
        await asyncio.to_thread(self._store.keep)
        stored: dict[Partition, int] = dict(self._store.offsets())
        if batch.samples or any(stored.get(partition) != offset for partition, offset in batch.offsets.items()):
            await asyncio.to_thread(self._store.write, batch)
        if monotonic() - self._expired_at >= EXPIRE_SECONDS:
            self._expired_at = monotonic()
            await asyncio.to_thread(self._store.expire, self._clock())
