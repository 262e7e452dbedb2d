"""Keep the offsets that are finished above a committed one in the commit's metadata.

Kafka commits one offset per partition, so everything finished above an unfinished record would be repeated after a
restart. Like Confluent's parallel consumer, the worker stores those offsets as run lengths in the commit's metadata,
and skips their records when the partition is assigned again.
"""

import base64
import binascii
from collections.abc import Iterable, Iterator, Sequence
from time import monotonic

OffsetRange = tuple[int, int]
"""An offset, and the offset after the last one of the range."""

MAX_METADATA_CHARACTERS = 4096
"""Kafka's default of `offset.metadata.max.bytes`."""

COMMIT_BYTES = 200
"""Estimated bytes in `__consumer_offsets` for one partition's commit without metadata."""

COMMIT_BYTES_PER_SECOND = 80_000
"""Bytes per second that a process writes to `__consumer_offsets`."""

_PREFIX = "turnout1:"


def encode_finished(committed: int, ranges: Iterable[OffsetRange], limit: int) -> tuple[str, bool]:
    """Return the metadata for a committed offset, and whether all ranges fit into `limit` characters.

    The ranges are above the offset, ascending, and do not touch. The metadata is `turnout1:` and base64 of varints: the
    number of unfinished offsets, of finished ones, and so on. It is empty without ranges.
    """
    most = (limit - len(_PREFIX)) // 4 * 3
    data = bytearray()
    at, whole = committed, True
    for start, end in ranges:
        pair = _varint(start - at) + _varint(end - start)
        if len(data) + len(pair) > most:
            whole = False
            break
        data += pair
        at = end
    return _PREFIX + base64.b64encode(data).decode() if data else "", whole


def decode_finished(committed: int, metadata: str | None) -> list[OffsetRange]:
    """Return the ranges of finished offsets above a committed one; unreadable metadata counts as empty."""
    if not metadata or not metadata.startswith(_PREFIX):
        return []
    try:
        lengths = list(_read_varints(base64.b64decode(metadata[len(_PREFIX) :], validate=True)))
    except (ValueError, binascii.Error):
        return []
    ranges: list[OffsetRange] = []
    at = committed
    for unfinished, finished in zip(lengths[::2], lengths[1::2], strict=False):
        start = at + unfinished
        at = start + finished
        ranges.append((start, at))
    return ranges if len(lengths) % 2 == 0 else []


def merge_ranges(ranges: Iterable[OffsetRange]) -> list[OffsetRange]:
    """Join ascending ranges that touch or overlap, and leave out empty ones."""
    merged: list[OffsetRange] = []
    for start, end in ranges:
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], end)
        elif end > start:
            merged.append((start, end))
    return merged


class CommitBudget:
    """Limit the bytes per second that all pipelines of a process write to `__consumer_offsets`.

    Each commit reserves the time that its bytes take at this rate, so under load every partition commits less often,
    and none is starved.
    """

    def __init__(self, bytes_per_second: float = COMMIT_BYTES_PER_SECOND) -> None:
        self._seconds_per_byte = 1 / bytes_per_second
        self._paid_at = 0.0

    def take(self, metadata: str, now: float | None = None) -> float:
        """Count one partition's commit; return the time (monotonic seconds) of its next one."""
        size = COMMIT_BYTES + len(metadata)
        self._paid_at = max(monotonic() if now is None else now, self._paid_at) + size * self._seconds_per_byte
        return self._paid_at


PROCESS_BUDGET = CommitBudget()
"""The budget of this process."""


def _varint(number: int) -> bytes:
    data = bytearray()
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    data.append(number)
    return bytes(data)


def _read_varints(data: Sequence[int]) -> Iterator[int]:
    """Decode varints; raises ValueError if the last number is cut off, or a number exceeds 63 bits."""
    number = shift = 0
    for byte in data:
        number |= (byte & 0x7F) << shift
        shift += 7
        if shift > 63:
            raise ValueError("the number is too large")
        if byte < 0x80:
            yield number
            number = shift = 0
    if shift:
        raise ValueError("the last number is cut off")
