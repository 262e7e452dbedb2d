"""Declare headers, size limits and format versions of all records.

Keys are UTF-8: the event's userId, else its anonymousId. Values are JSON, except in `rejected`, which keeps the
original bytes. Each record carries its format version; a reader rejects versions newer than its own.
"""

from collections.abc import Iterable
from typing import Any

import orjson

from turnout_tracking import records

EVENT_VERSION = records.VERSION
DELIVERY_VERSION = 1
RETRIED_VERSION = 1
OUTCOMES_VERSION = 1
DEAD_LETTER_VERSION = 1
REJECTED_VERSION = 1
HANDLED_VERSION = 1
SUPPRESSED_VERSION = 1
STATUS_VERSION = 1
CONTROL_VERSION = 1
RULES_VERSION = 1
MEMORY_VERSION = 1
"""The format version of each record type: the one that this code writes, and the newest that it reads.

Raise a version only if an older reader would misread the record. An additional field or header does not raise it.
"""

_OLDEST_FORMAT = b"1"
"""The version that every reader supports."""

MAX_VERSION_DIGITS = 9
"""Maximum digits of a version; a longer number counts as newer than this reader."""

SOURCE_HEADER = records.SOURCE_HEADER
VERSION_HEADER = records.VERSION_HEADER
REASON_HEADER = "turnout-reason"
DETAIL_HEADER = "turnout-detail"
FROM_HEADER = "turnout-from"
ATTEMPT_HEADER = "turnout-attempt"
DUE_HEADER = "turnout-due"
SINCE_HEADER = "turnout-since"
FORMAT_HEADER = "turnout-format"
HANDLED_HEADER = "turnout-handled"
REPLAY_HEADER = "turnout-replay"
TRACE_HEADER = "turnout-trace"
NOTED_HEADER = "turnout-noted"

MAX_RECORD_BYTES = 2 * 1024 * 1024
"""Maximum size of a record in Turnout's topics. Records made from an event may be larger than the event."""

MAX_TEXT_CHARACTERS = 4096
"""Maximum length of a text beside an event in a record that would otherwise be too large."""

Headers = list[tuple[str, bytes]]


class RecordError(ValueError):
    """A record that cannot be decoded: invalid JSON, or a missing field."""


class NewerFormatError(RecordError):
    """A record in a newer format than this version of Turnout supports.

    In a topic that only Turnout writes, it stops the worker. In `events`, which any producer may write to, the record
    is rejected.
    """

    def __init__(self, version: object, newest: int) -> None:
        super().__init__(
            f"a record has format {version!r}, but this version of Turnout reads up to {newest}"
            " (upgrade the readers first)"
        )


def check_version(headers: Iterable[tuple[str, bytes | None]], newest: int | None = None) -> None:
    """Check the format version in a record's headers; without the header it is version 1.

    Args:
        headers: The record's headers.
        newest: The newest version of the record type that this code reads, by default that of events.

    Raises:
        NewerFormatError: The version is newer than this reader.
        RecordError: The version is not a number.

    """
    for name, value in headers:
        if name == VERSION_HEADER and value != _OLDEST_FORMAT:
            if not value or not value.isdigit():
                raise RecordError("the format version of a record is not a number")
            newest = EVENT_VERSION if newest is None else newest
            # Python does not parse integers of more than 4,300 digits.
            if len(value) > MAX_VERSION_DIGITS or int(value) > newest:
                raise NewerFormatError(value[:MAX_VERSION_DIGITS].decode(), newest)


def decode_object(value: bytes | None, newest: int) -> dict[str, Any]:
    """Decode a record's JSON object; raises RecordError and NewerFormatError."""
    try:
        data = orjson.loads(value or b"")
    except orjson.JSONDecodeError as error:
        raise RecordError(f"a record is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise RecordError("a record is not a JSON object")
    version = data.get("v")
    if not isinstance(version, int):
        raise RecordError("a record has no format version")
    if version > newest:
        raise NewerFormatError(version, newest)
    return data
