"""Follow the list of suppressed users in Kafka."""

import asyncio
from collections.abc import Callable
from time import monotonic

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streams.kafka.reading import read_to_end
from streams.kafka.settings import Broker
from streams.observability.logging import error_fields
from streams.suppression.filter import SETTLE_SECONDS, SuppressedUsers

log = structlog.get_logger()

RETRY_SECONDS = 1.0
"""Delay before the next attempt if Kafka is unavailable."""


class SuppressionFollower:
    """Keeps a router's copy of Kafka's list up to date."""

    def __init__(
        self,
        broker: Broker,
        topic: str,
        users: SuppressedUsers,
        client_id: str,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._broker, self._part, self._users = broker, TopicPartition(topic, 0), users
        self._client_id, self._clock = client_id, clock
        self._consumer: AIOKafkaConsumer | None = None
        self._read_at = float("-inf")

    async def catch_up(self) -> None:
        """Return when the list is at most SETTLE_SECONDS old; the first call reads all of it."""
        while (now := self._clock()) - self._read_at >= SETTLE_SECONDS:
            try:
                await self._read()
            except KafkaError as error:
                log.warning("cannot read the suppressed users; routing is paused", **error_fields(error))
                await asyncio.sleep(RETRY_SECONDS)
            else:
                self._read_at = now

    async def _read(self) -> None:
        consumer = self._consumer or await self._start()
        end = (await consumer.end_offsets([self._part]))[self._part]
        if await consumer.position(self._part) < end:
            consumer.resume(self._part)
            async for records in read_to_end(consumer, self._part, end):
                for record in records:
                    self._users.take(record.key, record.value)
            consumer.pause(self._part)
        self._users.mark_read()

    async def _start(self) -> AIOKafkaConsumer:
        consumer = AIOKafkaConsumer(
            **self._broker.consumer(),
            client_id=self._client_id,
            group_id=None,
            enable_auto_commit=False,
            fetch_max_wait_ms=10,
        )
        try:
            await consumer.start()
            consumer.assign([self._part])
            await consumer.seek_to_beginning(self._part)
            # A fetch that waits for records would block requests for the topic's end on the same connection.
            consumer.pause(self._part)
        except KafkaError:
            await consumer.stop()
            raise
        self._consumer = consumer
        return consumer

    async def stop(self) -> None:
        """Disconnect from Kafka."""
        if self._consumer is not None:
            await self._consumer.stop()
