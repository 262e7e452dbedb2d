"""Sample events from Kafka for the catalog, at a bounded number per second."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streams.kafka.reading import partitions_of
from streams.kafka.settings import Broker
from streams.ledger.catalog import EventSample, sample_of
from streams.observability.logging import error_fields
from streams.records.format import SOURCE_HEADER

log = structlog.get_logger()

SAMPLE_SECONDS = 1.0
RETRY_SECONDS = 30.0
FETCH_BYTES = 64 * 1024
"""Bytes that are fetched of one partition. A sample needs few events, and a single larger one still comes."""

MAX_WAITING = 10_000
"""Samples that wait for the ledger to store them; further ones are left out."""


class EventSampler:
    """Takes the newest events of each second, up to a limit.

    Args:
        broker: How to reach Kafka.
        sources: The topics with events. The value is the source of all events in a topic, or None if records name it.
        per_second: Maximum number of events per second.

    """

    def __init__(self, broker: Broker, sources: Mapping[str, str | None], per_second: int) -> None:
        self._broker, self._sources, self._per_second = broker, sources, per_second
        self._samples: list[EventSample] = []
        self._seen: dict[TopicPartition, int] = {}

    def take(self) -> list[EventSample]:
        """Return the samples since the last call."""
        samples, self._samples = self._samples, []
        return samples

    async def run(self) -> None:
        """Sample until the task is cancelled; retries if Kafka fails."""
        while True:
            try:
                await self._sample_on()
            except (KafkaError, OSError) as error:
                log.warning("cannot sample events for the catalog; trying again", reason=str(error))
            except Exception as error:  # noqa: BLE001  # the ledger goes on without a catalog
                log.error("sampling events for the catalog failed; trying again", **error_fields(error))  # noqa: TRY400
            await asyncio.sleep(RETRY_SECONDS)

    async def _sample_on(self) -> None:
        consumer = AIOKafkaConsumer(
            **self._broker.consumer(),
            client_id="catalog",
            group_id=None,
            enable_auto_commit=False,
            max_partition_fetch_bytes=FETCH_BYTES,
        )
        try:
            await consumer.start()
            parts = await partitions_of(consumer, self._sources)
            consumer.assign(parts)
            consumer.pause(*parts)
            self._seen = await consumer.end_offsets(parts)
            while True:
                await asyncio.sleep(SAMPLE_SECONDS)
                await self._sample(consumer, parts)
        finally:
            with suppress(KafkaError):
                await consumer.stop()

    async def _sample(self, consumer: AIOKafkaConsumer, parts: list[TopicPartition]) -> None:
        """Take the newest events since the last call, equally from each partition."""
        ends = await consumer.end_offsets(parts)
        fresh = [part for part in parts if ends[part] > self._seen[part]]
        left = self._per_second
        for index, part in enumerate(fresh):
            share = -(-left // (len(fresh) - index))
            consumer.seek(part, max(self._seen[part], ends[part] - share))
            consumer.resume(part)
            records = (await consumer.getmany(part, timeout_ms=1000, max_records=share)).get(part, ())
            consumer.pause(part)
            self._seen[part] = ends[part]
            left -= len(records)
            for record in records:
                self._add(record)

    def _add(self, record: Any) -> None:
        source = self._sources[record.topic] or next(
            (value.decode(errors="replace") for name, value in record.headers if name == SOURCE_HEADER and value), ""
        )
        sample = sample_of(record.value, source, max(0, record.timestamp or 0) // 1000)
        if sample is not None and len(self._samples) < MAX_WAITING:
            self._samples.append(sample)
