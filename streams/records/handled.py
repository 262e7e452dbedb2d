"""Mark dead letters and rejected records as handled."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import orjson

from streams.records.format import HANDLED_HEADER, HANDLED_VERSION, VERSION_HEADER, Headers, RecordError, check_version


class Handled(NamedTuple):
    """A record without a value that marks other records of its topic as handled (dead letters, rejected events).

    `how` is `replayed` or `dropped`; `offsets` are offsets in the record's own partition.
    """

    how: str
    offsets: Sequence[int]

    def headers(self) -> Headers:
        """Return the record's headers."""
        return [(HANDLED_HEADER, orjson.dumps(tuple(self))), (VERSION_HEADER, b"%d" % HANDLED_VERSION)]

    @classmethod
    def decode(cls, headers: Iterable[tuple[str, bytes]]) -> "Handled | None":
        """Decode a record's headers, or return None for another kind of record; raises RecordError."""
        value = dict(headers).get(HANDLED_HEADER)
        if value is None:
            return None
        check_version(headers, HANDLED_VERSION)
        try:
            how, offsets = orjson.loads(value)
            return cls(how, [int(offset) for offset in offsets])
        except (ValueError, TypeError) as error:
            raise RecordError(f"the header turnout-handled is invalid: {error}") from error
