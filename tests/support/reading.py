"""Read a topic to its end, and wait for a condition."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.kafka.reading import read_to_end
from streams.kafka.settings import Broker


async def read(broker: Broker, topic: str, partitions: int = 3) -> list[Any]:
    """Return every record of a topic, from its beginning to its current end."""
    consumer = AIOKafkaConsumer(**broker.client(), enable_auto_commit=False)
    await consumer.start()
    try:
        parts = [TopicPartition(topic, number) for number in range(partitions)]
        consumer.assign(parts)
        await consumer.seek_to_beginning()
        return [record for part in parts async for records in read_to_end(consumer, part) for record in records]
    finally:
        await consumer.stop()


async def committed(broker: Broker, group: str, topic: str, partitions: int = 3) -> dict[int, int | None]:
    """Return a consumer group's committed offsets by partition."""
    consumer = AIOKafkaConsumer(**broker.client(), group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        return {number: await consumer.committed(TopicPartition(topic, number)) for number in range(partitions)}
    finally:
        await consumer.stop()


async def until(condition: Callable[[], bool], seconds: float = 300.0) -> None:
    """Wait for a condition; fails the test on a timeout."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.01)
