"""Read Kafka's answer to a search for offsets by time."""

from collections.abc import Mapping
from typing import Any, TypeVar

Part = TypeVar("Part")


def known_offsets(found: Mapping[Part, Any]) -> dict[Part, int]:
    """Return the offset of each partition that has a record at or after the time.

    `found` is the answer of `offsets_for_times`, of either client library. If no record is that recent, Kafka returns
    no entry, and the embedded broker one without a time.
    """
    return {part: entry.offset for part, entry in found.items() if entry is not None and entry.timestamp >= 0}
