"""How large a record that Turnout writes may be."""

from typing import Final, Self

from streams.records.format import MAX_RECORD_BYTES, Headers

HEADROOM: Final = 512
"""Bytes that a batch and Turnout's own short headers may add to a record's key and value.

Kafka's part is below 150 bytes. So a delivery that fits into a forward topic also fits into the retry topic.
"""

LARGEST_RECORD_BYTES: Final = MAX_RECORD_BYTES - HEADROOM
"""The largest key and value, with HEADROOM added, that the producer appends."""

SHORT_HEADERS: Final = 256
"""Bytes of headers that the headroom has room for."""


class RecordTooLargeError(ValueError):
    """A record that the topic would refuse; nothing was appended."""

    @classmethod
    def of(cls, size: int, limit: int) -> Self:
        """Make the error for a record whose key and value have `size` bytes."""
        return cls(f"a record of {size} bytes is over the limit of {limit}")


def length_of(headers: Headers) -> int:
    """Return how many bytes of a record its headers are."""
    return sum(len(name) + len(value or b"") + 8 for name, value in headers)
