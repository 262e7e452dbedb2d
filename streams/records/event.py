"""Write and read the headers of event records, and their coordinates."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import orjson

from streams.records.format import NOTED_HEADER, REPLAY_HEADER, TRACE_HEADER, Headers
from turnout_tracking import records

_TRACE = re.compile(rb"[A-Za-z0-9-]{1,64}")


def event_headers(source: str, trace: bytes | None = None) -> Headers:
    """Return the headers of an event's record; `trace` is the X-Turnout-Trace of its request."""
    headers = records.event_headers(source)
    if trace is not None:
        headers.append((TRACE_HEADER, trace))
    return headers


def valid_trace(value: bytes | None) -> bytes | None:
    """Return an X-Turnout-Trace, or the header made of one, if it is up to 64 letters, digits and `-`; else None."""
    return value if value is not None and _TRACE.fullmatch(value) else None


def noted_header(notes: Sequence[tuple[str, str]]) -> tuple[str, bytes]:
    """Return the header with the collector's notes about an event, each a short code and a detail."""
    return NOTED_HEADER, orjson.dumps(notes)


def read_notes(headers: Iterable[tuple[str, bytes | None]]) -> list[tuple[str, str]]:
    """Return the collector's notes about an event; empty if another producer wrote an invalid header."""
    for name, value in headers:
        if name == NOTED_HEADER:
            try:
                return [(str(reason)[:64], str(detail)[:256]) for reason, detail in orjson.loads(value or b"")]
            except (ValueError, TypeError):
                return []
    return []


def replay_header(partition: int, offset: int) -> tuple[str, bytes]:
    """Return the header of a rejected event that is replayed: its coordinates in the rejected topic."""
    return REPLAY_HEADER, b"%d:%d" % (partition, offset)


class Origin(NamedTuple):
    """The coordinates of an event in Kafka, which every record made from it carries."""

    topic: str
    partition: int
    offset: int


def read_origin(value: Any) -> Origin:
    """Read the coordinates in a record; raises TypeError or ValueError."""
    topic, partition, offset = value
    if not (type(topic) is str and type(partition) is type(offset) is int):
        raise TypeError("from")
    return Origin(topic, partition, offset)
