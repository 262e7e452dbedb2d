"""The header `turnout-run` of outcome records: the events that a router has read, in compact form.

A router processes a batch of events at once. The header lists the offsets that it read, and for each event a hash of
the messageId, a hash of the record's key, its source, type and name, and its minute. See deploy/docs/records.md for the
layout.
"""

from array import array
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import orjson
from xxhash import xxh3_64_digest

from streams.records.format import NewerFormatError, RecordError
from streams.records.outcomes import intervals

RUN_HEADER = "turnout-run"

RUN_HEADER_VERSION = 1
"""The version of the layout that this code writes and reads; the header's first byte."""

EVENTS_PER_HEADER = 2000
"""Maximum events per header. A longer batch gets several headers in separate records, each small enough for Kafka."""

NAME_CHARACTERS = 100
"""Maximum length of an event's name in the header."""

HASH_BYTES = 8
NO_HASH = bytes(HASH_BYTES)
"""The hash of a missing or unread messageId or key."""

MINUTE_MS = 60_000


class Kind(NamedTuple):
    """The properties by which events are counted; `name` is None if the event has none, all empty if it is invalid."""

    source: str
    type: str
    name: str | None


UNREAD = Kind("", "", None)
"""The kind of events that the router could not decode."""


class EventFacts(NamedTuple):
    """The facts that the router records about a decoded event."""

    offset: int
    message_id: str
    source: str
    type: str
    name: str | None


class RunHeader(NamedTuple):
    """A decoded header. Sequences have one element per event, in the order of `offsets`.

    `ids` and `users` are hashes, HASH_BYTES per event. `minutes` are minutes since 1970, 0 if a record has no time.
    `first_ms` and `last_ms` are the earliest and the latest time of a record.
    """

    offsets: Sequence[int]
    ids: bytes
    users: bytes
    kinds: Sequence[int]
    table: Sequence[Kind]
    minutes: Sequence[int]
    first_ms: int
    last_ms: int


def hash_id(text: str | bytes | None) -> bytes:
    """Return the hash of a messageId or of a record's key; None and empty give NO_HASH."""
    data = text.encode() if isinstance(text, str) else text
    return xxh3_64_digest(data) if data else NO_HASH


def encode_run(records: Sequence[Any], facts: Sequence[EventFacts | tuple[Any, ...]]) -> Iterator[bytes]:
    """Encode the headers of one batch: one per EVENTS_PER_HEADER records.

    Args:
        records: The consumer's records in the order of their offsets, all of one partition.
        facts: An EventFacts, or a tuple of that form, for each record that the router decoded, in the same order.

    """
    if len(facts) < len(records):
        known = {each[0]: each for each in facts}
        facts = [known.get(record.offset, (record.offset, "", *UNREAD)) for record in records]
    for start in range(0, len(records), EVENTS_PER_HEADER):
        yield _encode(records[start : start + EVENTS_PER_HEADER], facts[start : start + EVENTS_PER_HEADER])


def _encode(records: Sequence[Any], facts: Sequence[tuple[Any, ...]]) -> bytes:
    # This runs for each event of the router: whole lists at once are several times as fast as a loop.
    offsets, ids, sources, types, names = zip(*facts, strict=True)
    keys = [record.key for record in records]
    times = [record.timestamp for record in records]
    kinds = list(zip(sources, types, names, strict=True))
    indexes = {kind: index for index, kind in enumerate(dict.fromkeys(kinds))}
    table = orjson.dumps(
        [(source, kind, name[:NAME_CHARACTERS] if type(name) is str else None) for source, kind, name in indexes]
    )
    is_whole = offsets[-1] - offsets[0] + 1 == len(offsets)
    stretches = [(offsets[0], offsets[-1])] if is_whole else list(intervals(offsets))
    if None in times or min(times) < 0:
        times = [max(0, time or 0) for time in times]
    first, last = min(times), max(times)
    header = bytearray([RUN_HEADER_VERSION])
    _append(header, len(offsets), len(stretches))
    end = 0
    for start, stop in stretches:
        _append(header, start - end, stop - start + 1)
        end = stop + 1
    _append(header, first, last - first)
    if first // MINUTE_MS != last // MINUTE_MS:
        minutes = [(minute, sum(1 for _ in group)) for minute, group in groupby(time // MINUTE_MS for time in times)]
        _append(header, len(minutes))
        for minute, count in minutes:
            _append(header, minute - first // MINUTE_MS, count)
    _append(header, len(table))
    header += table
    if len(indexes) > 1:
        codes = array("H" if len(indexes) > 256 else "B", map(indexes.__getitem__, kinds))
        header += _little_endian(codes)
    header += b"".join(map(xxh3_64_digest, map(str.encode, ids))) if all(ids) else b"".join(map(hash_id, ids))
    header += b"".join(map(xxh3_64_digest, keys)) if all(keys) else b"".join(map(hash_id, keys))
    return bytes(header)


def decode_run(header: bytes | None) -> RunHeader:
    """Decode a header; raises RecordError, or NewerFormatError if its layout is newer than this reader."""
    try:
        return _decode(header or b"")
    except RecordError:
        raise
    except (IndexError, ValueError, TypeError, OverflowError) as error:
        raise RecordError(f"the header {RUN_HEADER} is invalid: {error}") from error


def _decode(header: bytes) -> RunHeader:
    if header[0] > RUN_HEADER_VERSION:
        raise NewerFormatError(header[0], RUN_HEADER_VERSION)
    reader = _HeaderReader(header)
    count, stretches = reader.number(), reader.number()
    if count * 2 * HASH_BYTES > len(header):
        raise ValueError("too short")
    offsets: list[int] = []
    end = 0
    for _ in range(stretches):
        start = end + reader.number()
        end = start + reader.number()
        if end - start > count - len(offsets):
            raise ValueError("the ranges are longer than the event count")
        offsets.extend(range(start, end))
    first = reader.number()
    last = first + reader.number()
    minute = first // MINUTE_MS
    minutes: list[int] = []
    if minute == last // MINUTE_MS:
        minutes = [minute] * len(offsets)
    else:
        for _ in range(reader.number()):
            later, length = reader.number(), reader.number()
            if length > count - len(minutes):
                raise ValueError("the minutes are longer than the event count")
            minutes.extend([minute + later] * length)
    table = [Kind(str(source), str(kind), name) for source, kind, name in orjson.loads(reader.take(reader.number()))]
    kinds: Sequence[int] = bytes(count)
    if len(table) > 256:
        wide = array("H", reader.take(2 * count))
        kinds = array("H", _little_endian(wide))
    elif len(table) > 1:
        kinds = reader.take(count)
    ids, users = reader.take(HASH_BYTES * count), reader.take(HASH_BYTES * count)
    if not len(offsets) == len(minutes) == count or (count and max(kinds) >= len(table)):
        raise ValueError("the parts have different lengths")
    return RunHeader(offsets, ids, users, kinds, table, minutes, first, last)


def _little_endian(codes: "array[int]") -> bytes:
    if codes.itemsize > 1 and array("H", [1]).tobytes() != b"\1\0":
        codes.byteswap()
    return codes.tobytes()


def _append(header: bytearray, *numbers: int) -> None:
    """Append numbers as base-128 varints: seven bits per byte, lowest first. All but the last byte have the high bit
    set.
    """
    for number in numbers:
        rest = number
        while rest > 0x7F:
            header.append(rest & 0x7F | 0x80)
            rest >>= 7
        header.append(rest)


class _HeaderReader:
    """Reads the parts of a header in order."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 1

    def number(self) -> int:
        """Return the next varint."""
        found = shift = 0
        while True:
            byte = self._data[self._at]
            self._at += 1
            found |= (byte & 0x7F) << shift
            if byte < 0x80:
                return found
            shift += 7
            if shift > 63:
                raise ValueError("a number is too long")

    def take(self, length: int) -> bytes:
        """Return the next bytes."""
        part = self._data[self._at : self._at + length]
        if len(part) < length:
            raise ValueError("too short")
        self._at += length
        return part
