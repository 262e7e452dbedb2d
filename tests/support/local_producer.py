"""Provide a producer without a broker: it builds real batches, keeps their records, and confirms them."""

import asyncio
from collections.abc import Iterable
from typing import Any, NamedTuple

from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from streams.kafka.producer import Producer
from streams.kafka.settings import Broker
from streams.records.format import MAX_RECORD_BYTES


class LocalRecord(NamedTuple):
    """A record in a consumer's form."""

    topic: str
    partition: int
    offset: int
    timestamp: int | None
    key: bytes | None
    value: bytes | None
    headers: Any


class LocalProducer(Producer):
    """Keeps records in `records` by topic; `error` is the result of each batch."""

    def __init__(self) -> None:
        super().__init__(Broker(), client_id="local", linger=0.0)
        self._create_batch = lambda: BatchBuilder(self._batch_bytes, 0)
        self.records: dict[str, list[LocalRecord]] = {}
        self.error: BaseException | None = None

    def _send(self, queues: Iterable[Any]) -> None:
        for queue in queues:
            asyncio.get_running_loop().call_soon(self._flush, queue)

    def _flush(self, queue: Any) -> None:
        while (batch := queue.take()) is not None:
            if batch.count:
                batch.close()
                self._keep(queue.topic, queue.partition, bytes(batch.builder._build()))
            self._settle(queue, batch, self.error)

    def _keep(self, topic: str, partition: int, batch: bytes) -> None:
        kept = self.records.setdefault(topic, [])
        found = MemoryRecords(batch).next_batch()
        records = list(found)
        assert len(records) > 1 or len(batch) <= MAX_RECORD_BYTES, "a broker would refuse this record"
        for record in records:
            kept.append(
                LocalRecord(
                    topic, partition, len(kept), record.timestamp, record.key, record.value, tuple(record.headers)
                )
            )
