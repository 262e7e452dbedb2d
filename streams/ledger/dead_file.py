"""Store the groups of dead letters in a file of the ledger.

Dead letters and the marks that close them are bit sets of offsets in the dead topic, by group and hour. Each row also
has its counts, so that listing groups takes one query. Everything is a union: writing it again changes nothing.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from streams.ledger import bit_sets, day_file, store
from streams.ledger.bit_sets import BitSets
from streams.ledger.store import BuriedLetter, DeadGroup, DeadGroupKey

DEAD_FILE = "dead-letters.db"
HOUR = 3600

SCHEMA = """
CREATE TABLE IF NOT EXISTS groups(
  id INTEGER PRIMARY KEY, integration TEXT, rule TEXT, reason TEXT, status INTEGER, message TEXT,
  first INTEGER, last INTEGER
);
CREATE TABLE IF NOT EXISTS died(
  partition INTEGER, block INTEGER, grp INTEGER, hour INTEGER, bits BLOB, total INTEGER, open INTEGER,
  PRIMARY KEY(partition, block, grp, hour)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS died_by_group ON died(grp, hour, total, open);
CREATE TABLE IF NOT EXISTS handled(
  partition INTEGER, block INTEGER, bits BLOB, PRIMARY KEY(partition, block)
) WITHOUT ROWID;
"""

_Block = tuple[int, int]


def read_groups(folder: Path, hours_since: int) -> Sequence[DeadGroup]:
    """Return the groups in a folder's file; see `Reader.dead_groups`."""
    if not (folder / DEAD_FILE).exists():
        return []
    connection = day_file.connect(folder / DEAD_FILE, query_only=True)
    try:
        if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'handled'").fetchone() is None:
            return []
        connection.execute("BEGIN")
        return [_group(connection, row, hours_since) for row in connection.execute(_GROUPS).fetchall()]
    finally:
        connection.close()


_GROUPS = """
SELECT id, integration, rule, reason, status, message, sum(open), sum(total), first, last
FROM groups JOIN died ON grp = id GROUP BY id
"""


def _group(connection: sqlite3.Connection, row: Sequence[int], hours_since: int) -> DeadGroup:
    number, *key, still_open, total, first, last = row
    hours = "SELECT hour, sum(total) FROM died WHERE grp = ? AND hour >= ? GROUP BY hour ORDER BY hour"
    return DeadGroup(
        DeadGroupKey(*key),  # type: ignore[arg-type]  # columns of SQLite have no types
        still_open,
        total,
        first,
        last,
        dict(connection.execute(hours, (number, hours_since - hours_since % HOUR))),
        _newest(connection, number),
    )


def _newest(connection: sqlite3.Connection, group: int) -> list[tuple[int, int]]:
    """Return the newest open dead letters of a group, by hour and then by offset."""
    found: list[tuple[int, int]] = []
    rows = "SELECT partition, block, bits FROM died WHERE grp = ? AND open > 0 ORDER BY hour DESC, block DESC LIMIT ?"
    for partition, block, bits in connection.execute(rows, (group, store.NEWEST_LETTERS)):
        still_open = bit_sets.decode(bits) & ~_handled(connection, (partition, block))
        offsets = [*bit_sets.offsets(block, still_open)][::-1]
        found += [(partition, offset) for offset in offsets[: store.NEWEST_LETTERS - len(found)]]
    return found


def _handled(connection: sqlite3.Connection, block: _Block) -> int:
    row = connection.execute("SELECT bits FROM handled WHERE partition = ? AND block = ?", block).fetchone()
    return bit_sets.decode(row[0]) if row else 0


class DeadLetterFile:
    """Writes the file; one process at a time."""

    def __init__(self, folder: Path) -> None:
        self._connection = day_file.connect(folder / DEAD_FILE)
        self._connection.executescript(SCHEMA)
        columns = "integration, rule, reason, status, message"
        self._numbers = {
            DeadGroupKey(*key): number
            for number, *key in self._connection.execute(f"SELECT id, {columns} FROM groups")  # noqa: S608  # of this function
        }

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def write(self, letters: Iterable[BuriedLetter], handled: Iterable[tuple[int, int]]) -> None:
        """Add dead letters, and mark some as handled (partitions and offsets), in one transaction."""
        died: dict[tuple[int, int, int], BitSets] = defaultdict(BitSets)
        closed: dict[int, BitSets] = defaultdict(BitSets)
        self._connection.execute("BEGIN IMMEDIATE")
        for letter in letters:
            place = letter.place
            number = self._number(letter.group, letter.second)
            died[place.partition, number, letter.second // HOUR * HOUR].add(place.offset, place.offset)
        for partition, offset in handled:
            closed[partition].add(offset, offset)
        changed = {*self._close(closed), *self._bury(died)}
        for block in changed:
            self._count(block)
        self._connection.execute("COMMIT")

    def _number(self, key: DeadGroupKey, second: int) -> int:
        if key not in self._numbers and len(self._numbers) >= store.MAX_GROUPS:
            key = DeadGroupKey(key.integration, "", "", None, store.OTHER_MESSAGE)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = max(self._numbers.values(), default=0) + 1
            self._connection.execute(
                "INSERT INTO groups VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (number, *key, second, second)
            )
        else:
            self._connection.execute(
                "UPDATE groups SET first = min(first, ?), last = max(last, ?) WHERE id = ?", (second, second, number)
            )
        return number

    def _bury(self, died: Mapping[tuple[int, int, int], BitSets]) -> Iterable[_Block]:
        for (partition, number, hour), sets in died.items():
            for block, bits in sets.blocks():
                key = partition, block, number, hour
                select = "SELECT bits FROM died WHERE partition = ? AND block = ? AND grp = ? AND hour = ?"
                row = self._connection.execute(select, key).fetchone()
                data = bit_sets.encode(bits | bit_sets.decode(row[0]) if row else bits)
                self._connection.execute("INSERT OR REPLACE INTO died VALUES (?, ?, ?, ?, ?, 0, 0)", (*key, data))
                yield partition, block

    def _close(self, closed: Mapping[int, BitSets]) -> Iterable[_Block]:
        for partition, sets in closed.items():
            for block, bits in sets.blocks():
                before = _handled(self._connection, (partition, block))
                if bits & ~before:
                    data = bit_sets.encode(bits | before)
                    self._connection.execute(
                        "INSERT OR REPLACE INTO handled VALUES (?, ?, ?)", (partition, block, data)
                    )
                    yield partition, block

    def _count(self, block: _Block) -> None:
        """Recount the dead letters of a block."""
        handled = _handled(self._connection, block)
        where = "WHERE partition = ? AND block = ?"
        rows = self._connection.execute(f"SELECT grp, hour, bits FROM died {where}", block).fetchall()  # noqa: S608  # of this function
        for number, hour, data in rows:
            bits = bit_sets.decode(data)
            numbers = bits.bit_count(), (bits & ~handled).bit_count()
            self._connection.execute(
                f"UPDATE died SET total = ?, open = ? {where} AND grp = ? AND hour = ?",  # noqa: S608  # of this function
                (*numbers, *block, number, hour),
            )

    def expire(self, before: int) -> None:
        """Remove dead letters of hours before a time in seconds since 1970."""
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute("DELETE FROM died WHERE hour < ?", (before - before % HOUR,))
        self._connection.execute("DELETE FROM groups WHERE id NOT IN (SELECT grp FROM died)")
        self._connection.execute(
            "DELETE FROM handled WHERE NOT EXISTS (SELECT 1 FROM died WHERE died.partition = handled.partition"
            " AND died.block <= handled.block)"
        )
        self._connection.execute("COMMIT")
        kept = {number for (number,) in self._connection.execute("SELECT id FROM groups")}
        self._numbers = {key: number for key, number in self._numbers.items() if number in kept}
