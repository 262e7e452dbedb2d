"""Find the partitions of topics, and read a partition from a consumer's position to its end."""

from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition


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
