"""Decode a record of the events topic into an event with a known source. This precedes dedupe."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from streams import events
from streams.events import Event, EventError
from streams.records.event import Origin, read_notes
from streams.records.format import SOURCE_HEADER, RecordError, check_version
from streams.routing.eligibility import find_source
from streams.sources.source import Source, Sources

NEWER_FORMAT = "newer_format"
"""The reason of records in a format that this version cannot read."""

RecordHeaders = Iterable[tuple[str, bytes | None]]


class EventRecord(NamedTuple):
    """A record of the events topic that does not come from a consumer, with the same field names."""

    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()
    key: bytes | None = None
    timestamp: int | None = None
    topic: str = ""
    partition: int = 0
    offset: int = 0


class IncomingEvent(NamedTuple):
    """A normalized event with a messageId, before the steps of its source.

    `source` is None only if the caller allows unknown sources. `timestamp` is the record's, in milliseconds since 1970;
    None or a number out of range means that the record has none. `notes` are from the collector and from normalization.
    """

    event: Event
    source: Source | None
    key: bytes | None
    timestamp: int | None
    origin: Origin
    notes: Sequence[tuple[str, str]]


def source_of(headers: RecordHeaders) -> str | None:
    """Return the source in a record's headers, or None without one."""
    for name, value in headers:
        if name == SOURCE_HEADER and value is not None:
            return value.decode(errors="replace")
    return None


def named_source(record: Any, sources: Sources) -> str | None:
    """Return the source that a record names: the owner of its topic, else the one in its headers."""
    owner = sources.by_topic(record.topic)
    return owner.name if owner else source_of(record.headers)


def decode(record: Any, sources: Sources, named: str | None, *, needs_source: bool = True) -> IncomingEvent:
    """Decode a record that has a value.

    Args:
        record: A consumer's record, or an EventRecord.
        sources: The current sources.
        named: The source that the record names (`named_source`).
        needs_source: Whether to reject an event of an unknown source; if False, it gets no source.

    Raises:
        EventError: The event is rejected; `code` is the reason.

    """
    value, headers = record.value, record.headers
    try:
        check_version(headers)
    except RecordError as error:
        raise EventError(NEWER_FORMAT, "", str(error)) from None
    origin = Origin(record.topic, record.partition, record.offset)
    notes = read_notes(headers)
    brackets = events.count_brackets(value)
    event = events.parse(value, origin, lambda reason, detail: notes.append((reason, detail)), brackets)
    source = None
    try:
        source = find_source(sources, named, event)
    except EventError:
        if needs_source:
            raise
    events.check_depth(event, source.limits.depth if source else events.DEPTH, brackets)
    return IncomingEvent(event, source, record.key, record.timestamp, origin, notes)
