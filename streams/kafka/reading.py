"""Find the partitions of topics, and read a partition from a consumer's position to its end."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

RECORDS_AT_ONCE = 500
"""Records of several partitions that are read before the event loop runs other tasks."""


async def partitions_of(consumer: AIOKafkaConsumer, topics: Collection[str]) -> list[TopicPartition]:
    """Return the partitions of topics that the consumer need not be assigned; none of a topic that does not exist.

    Raises KafkaError.
    """
    existing = await consumer.topics()
    found = [topic for topic in topics if topic in existing]
    # After `topics` the client knows no partitions; it asks for those of topics that it needs.
    await consumer.end_offsets([TopicPartition(topic, 0) for topic in found])
    return [
        TopicPartition(topic, number)
        for topic in found
        for number in sorted(consumer.partitions_for_topic(topic) or ())
    ]


async def read_to_end(
    consumer: AIOKafkaConsumer, part: TopicPartition, end: int | None = None
) -> AsyncIterator[Sequence[Any]]:
    """Yield a partition's records, as they are fetched, from the consumer's position until `end` is reached.

    The last records may be past `end`, which by default is the partition's end at the call. The consumer must be
    assigned the partition. Raises KafkaError.
    """
    if end is None:
        end = (await consumer.end_offsets([part]))[part]
    while await consumer.position(part) < end:
        yield (await consumer.getmany(part, timeout_ms=1000)).get(part, ())


async def read_all_to_end(
    consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int]
) -> AsyncIterator[tuple[TopicPartition, Sequence[Any]]]:
    """Yield the records of several partitions as they are fetched, until each has reached its end.

    As `read_to_end`, the last records of a partition may be past its end. Raises KafkaError.
    """
    parts = {TopicPartition(*part): end for part, end in ends.items()}
    moved: Collection[TopicPartition] = list(parts)
    while parts:
        for part in moved:
            if await consumer.position(part) >= parts[part]:
                del parts[part]
                consumer.pause(part)
        found = await consumer.getmany(*parts, timeout_ms=1000, max_records=RECORDS_AT_ONCE) if parts else {}
        for part, records in found.items():
            yield part, records
        # Without records, positions may have passed markers of transactions.
        moved = found.keys() or list(parts)
        await asyncio.sleep(0)
