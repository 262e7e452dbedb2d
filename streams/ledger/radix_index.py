"""Index hashes to places in SQLite: sorted 16-byte entries in blob rows, merged by radix.

One row per hash would change a random page of the file for each event. Here a commit appends one sorted row to bucket 0
of level 0. When a bucket has FAN rows, they are merged and split by the next four bits of the hash into one row for
each of 16 buckets of the next level. So each entry is written again only once per level, in large pieces, and a look-up
reads at most FAN rows per level.
"""

import sqlite3
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence

ENTRY_BYTES = 16
KEY_BYTES = 8
FAN = 16
"""Rows of a bucket that are merged, and buckets that a bucket is split into."""

SPLIT_BYTES = 16 * 1024 * FAN
"""Bytes of a bucket that are worth splitting; fewer become one row of the same bucket."""

MERGES_PER_COMMIT = 4
"""Bounds how long a commit takes; the remaining merges follow with the next commits."""

MAX_LEVEL = 15
"""The level whose buckets share 60 of the 64 bits of a hash, which is not split."""


def create(connection: sqlite3.Connection, table: str) -> None:
    """Create the table of an index."""
    connection.execute(
        f"CREATE TABLE {table}(level INTEGER, bucket INTEGER, seq INTEGER, data BLOB, PRIMARY KEY(level, bucket, seq))"
    )


def find(connection: sqlite3.Connection, table: str, key: bytes) -> Iterator[bytes]:
    """Return the values of a key (8 bytes each), unordered; a value may occur twice."""
    top = connection.execute(f"SELECT max(level) FROM {table}").fetchone()[0]  # noqa: S608  # a name from the code
    number = int.from_bytes(key, "big")
    for level in range(0 if top is None else top + 1):
        for (data,) in connection.execute(
            f"SELECT data FROM {table} WHERE level = ? AND bucket = ?",  # noqa: S608  # a name from the code
            (level, _bucket(number, level)),
        ):
            yield from _find(data, key)


def _find(data: bytes, key: bytes) -> Iterator[bytes]:
    low, high = 0, len(data) // ENTRY_BYTES
    while low < high:
        middle = (low + high) // 2
        if data[middle * ENTRY_BYTES : middle * ENTRY_BYTES + KEY_BYTES] < key:
            low = middle + 1
        else:
            high = middle
    at = low * ENTRY_BYTES
    while data[at : at + KEY_BYTES] == key:
        yield data[at + KEY_BYTES : at + ENTRY_BYTES]
        at += ENTRY_BYTES


def _bucket(number: int, level: int) -> int:
    return number >> (64 - 4 * level) if level else 0


class RadixIndex:
    """Writes the index of one table. Its row counts follow the transactions of the connection.

    It must be created again after a rollback.
    """

    def __init__(self, connection: sqlite3.Connection, table: str) -> None:
        self._connection, self._table = connection, table
        self._rows: dict[tuple[int, int], tuple[int, int]] = {}
        self._full: list[tuple[int, int]] = []
        for level, bucket, seq, count in connection.execute(
            f"SELECT level, bucket, max(seq) + 1, count(*) FROM {table} GROUP BY level, bucket"  # noqa: S608  # as above
        ):
            self._rows[level, bucket] = seq, count
            if count >= FAN:
                self._full.append((level, bucket))

    def add(self, entries: Iterable[bytes]) -> None:
        """Add entries of ENTRY_BYTES: a key and a value. Call it once per commit with all entries."""
        if data := b"".join(sorted(entries)):
            self._insert(0, 0, data)
        for _ in range(MERGES_PER_COMMIT):
            if not self._full:
                return
            self._merge(*self._full.pop(0))

    def _insert(self, level: int, bucket: int, data: bytes) -> None:
        seq, count = self._rows.get((level, bucket), (0, 0))
        self._connection.execute(
            f"INSERT INTO {self._table} VALUES (?, ?, ?, ?)",  # noqa: S608  # as above
            (level, bucket, seq, data),
        )
        self._rows[level, bucket] = seq + 1, count + 1
        if count + 1 == FAN:
            self._full.append((level, bucket))

    def _merge(self, level: int, bucket: int) -> None:
        rows = self._connection.execute(
            f"SELECT data FROM {self._table} WHERE level = ? AND bucket = ? ORDER BY seq",  # noqa: S608  # as above
            (level, bucket),
        ).fetchall()
        entries: list[bytes] = []
        for (data,) in rows:
            entries.extend([data[at : at + ENTRY_BYTES] for at in range(0, len(data), ENTRY_BYTES)])
        # The rows are sorted, which makes sorting all of them fast. A repeated record leaves an entry twice.
        entries = list(dict.fromkeys(sorted(entries)))
        self._connection.execute(
            f"DELETE FROM {self._table} WHERE level = ? AND bucket = ?",  # noqa: S608  # as above
            (level, bucket),
        )
        self._rows[level, bucket] = self._rows[level, bucket][0], 0
        if len(entries) * ENTRY_BYTES < SPLIT_BYTES or level == MAX_LEVEL:
            self._insert(level, bucket, b"".join(entries))
            return
        for number, part in self._split(level, bucket, entries):
            self._insert(level + 1, number, b"".join(part))

    @staticmethod
    def _split(level: int, bucket: int, entries: Sequence[bytes]) -> Iterator[tuple[int, Sequence[bytes]]]:
        """Return the parts of sorted entries by bucket of the next level."""
        start = 0
        for number in range(bucket * FAN, bucket * FAN + FAN):
            bound = ((number + 1) << (60 - 4 * level)) if number + 1 < 16 ** (level + 1) else None
            end = len(entries) if bound is None else bisect_left(entries, bound.to_bytes(KEY_BYTES, "big"), start)
            if end > start:
                yield number, entries[start:end]
            start = end
