"""Limit the size of the records that Turnout writes."""

from typing import Final, Self

from streams.records.format import MAX_RECORD_BYTES, Headers

HEADROOM: Final = 512
"""Bytes that a Kafka batch and Turnout's short headers may add to a record's key and value.

Kafka adds less than 150 bytes. A delivery that fits into a forward topic therefore also fits into the retry topic.
"""

LARGEST_RECORD_BYTES: Final = MAX_RECORD_BYTES - HEADROOM
"""Maximum size of key, value and HEADROOM that the producer appends."""

SHORT_HEADERS: Final = 256
"""Bytes of headers that HEADROOM covers."""


class RecordTooLargeError(ValueError):
    """A record that exceeds the topic's limit; nothing was appended."""

    @classmethod
    def of(cls, size: int, limit: int) -> Self:
        """Make the error for a record whose key and value have `size` bytes."""
        return cls(f"a record of {size} bytes exceeds the limit of {limit}")


def length_of(headers: Headers) -> int:
    """Return the size of a record's headers in bytes."""
    size = 0
    for name, value in headers:
        size += len(name) + len(value or b"") + 8
    return size
