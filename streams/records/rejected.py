"""Encode and decode rejected records."""

from collections.abc import Iterable
from typing import NamedTuple

import orjson

from streams.records.event import Origin, read_origin
from streams.records.format import (
    DETAIL_HEADER,
    FORMAT_HEADER,
    FROM_HEADER,
    MAX_TEXT_CHARACTERS,
    REASON_HEADER,
    REJECTED_VERSION,
    SOURCE_HEADER,
    TRACE_HEADER,
    VERSION_HEADER,
    Headers,
    RecordError,
    check_version,
)

QUARANTINED_REASON = "quarantined"
"""The reason of rejected records with the outcome `quarantined`."""


def rejected_headers(
    reason: str,
    detail: str,
    source: str,
    origin: Origin | None = None,
    *,
    version: bytes | None = None,
    trace: bytes | None = None,
) -> Headers:
    """Make the headers of a rejected record.

    Args:
        reason: A short code.
        detail: An explanation of the reason.
        source: The event's source, empty if unknown.
        origin: The event's coordinates; None if the collector rejected it.
        version: The event's format version, if this version of Turnout cannot read it.
        trace: The X-Turnout-Trace of the event's request.

    """
    headers = [
        (REASON_HEADER, reason.encode()),
        (DETAIL_HEADER, _clean(detail)),
        (SOURCE_HEADER, _clean(source)),
        (FROM_HEADER, orjson.dumps(tuple(origin) if origin else None)),
        (VERSION_HEADER, b"%d" % REJECTED_VERSION),
    ]
    if version is not None:
        headers.append((FORMAT_HEADER, version[:MAX_TEXT_CHARACTERS]))
    if trace is not None:
        headers.append((TRACE_HEADER, trace))
    return headers


def _clean(text: str) -> bytes:
    return text[:MAX_TEXT_CHARACTERS].encode(errors="replace")


class Rejected(NamedTuple):
    """A decoded record of the rejected topic.

    `value` is the event, byte for byte. `version` is its format version if it was rejected because of that. `trace` is
    the X-Turnout-Trace of its request.
    """

    reason: str
    detail: str
    source: str
    origin: Origin | None
    key: bytes | None
    value: bytes | None
    version: bytes | None = None
    trace: bytes | None = None

    @classmethod
    def decode(cls, key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes]]) -> "Rejected":
        """Decode a rejected record; raises RecordError."""
        found = dict(headers)
        check_version(headers, REJECTED_VERSION)
        try:
            origin = orjson.loads(found[FROM_HEADER])
            return cls(
                found[REASON_HEADER].decode(),
                found[DETAIL_HEADER].decode(),
                found[SOURCE_HEADER].decode(),
                read_origin(origin) if origin else None,
                key,
                value,
                found.get(FORMAT_HEADER),
                found.get(TRACE_HEADER),
            )
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise RecordError(f"a rejected record has a missing or invalid header: {error}") from error
