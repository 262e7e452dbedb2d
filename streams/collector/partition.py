"""Which partition a key belongs to: the one that Kafka's Java clients choose, so that other producers agree."""

from collections.abc import Callable
from functools import lru_cache

from aiokafka.partitioner import murmur2

CACHED_KEYS = 50_000
"""Keys whose partition is remembered, at most; hashing one takes 7 µs, and the next event is often of the same user."""


def make_partitioner(partitions: int) -> Callable[[bytes], int]:
    """The function from a key to its partition, of `partitions`."""

    @lru_cache(CACHED_KEYS)
    def find_partition(key: bytes) -> int:
        return (int(murmur2(key)) & 0x7FFFFFFF) % partitions

    return find_partition
