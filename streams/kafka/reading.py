"""Read a partition from a consumer's position to its end."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition


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
