"""Read and write one SQLite file of the ledger, one block at a time."""

import heapq
import sqlite3
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import date
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from streams.ledger import bit_sets, books, radix_index
from streams.ledger.books import BlockState, KindAndMinute
from streams.ledger.radix_index import RadixIndex
from streams.ledger.store import Block, Combo, CountKey, DeadLetterPlace, Partition, Remark
from streams.records.event import Origin
from streams.records.outcomes import FORWARDED, LostDeliveries, Outcome
from streams.records.run_header import Kind

PREFIX, SUFFIX = "ledger-", ".db"

OFFSET_BITS = 44
"""Bits of an offset in a place; the number of the partition in the file is above them."""

MINUTE, HOUR, DAY = 60, 3600, 86400
COUNT_TABLES: Mapping[int, tuple[str, str]] = {
    MINUTE: ("counts", "minute"),
    HOUR: ("hours", "hour"),
    DAY: ("days", "day"),
}
"""The tables of counts and their columns of time, by seconds."""

CACHED_BLOCKS = 256
MAX_KINDS = 5000
"""Kinds of events that a file distinguishes; event names come from clients, so their number has no other bound."""

OTHER_NAME = "(other)"
"""The name of events whose kind is beyond MAX_KINDS."""

SCHEMA = """
CREATE TABLE offsets(topic TEXT, partition INTEGER, next INTEGER NOT NULL, PRIMARY KEY(topic, partition)) WITHOUT ROWID;
CREATE TABLE partitions(
  id INTEGER PRIMARY KEY, topic TEXT, partition INTEGER, first_block INTEGER, last_block INTEGER,
  UNIQUE(topic, partition)
);
CREATE TABLE kinds(id INTEGER PRIMARY KEY, source TEXT, type TEXT, name TEXT);
CREATE TABLE combos(
  id INTEGER PRIMARY KEY, stage TEXT, rules TEXT, integration TEXT, rule TEXT, outcome TEXT, reason TEXT
);
CREATE TABLE count_keys(id INTEGER PRIMARY KEY, integration TEXT, rule TEXT, outcome TEXT, reason TEXT);
CREATE TABLE events(
  partition INTEGER, block INTEGER, kind INTEGER, minute INTEGER, bits BLOB, PRIMARY KEY(partition, block, kind, minute)
) WITHOUT ROWID;
CREATE TABLE outcomes(
  partition INTEGER, block INTEGER, combo INTEGER, bits BLOB, PRIMARY KEY(partition, block, combo)
) WITHOUT ROWID;
CREATE TABLE counts(
  minute INTEGER, kind INTEGER, key INTEGER, count INTEGER, PRIMARY KEY(minute, kind, key)
) WITHOUT ROWID;
CREATE TABLE hours(
  hour INTEGER, kind INTEGER, key INTEGER, count INTEGER, PRIMARY KEY(hour, kind, key)
) WITHOUT ROWID;
CREATE TABLE days(
  day INTEGER, kind INTEGER, key INTEGER, count INTEGER, PRIMARY KEY(day, kind, key)
) WITHOUT ROWID;
CREATE TABLE remarks(
  partition INTEGER, offset INTEGER, integration TEXT, rule TEXT, outcome TEXT, reason TEXT, detail TEXT,
  PRIMARY KEY(partition, offset, integration, rule, outcome, reason, detail)
) WITHOUT ROWID;
CREATE TABLE dead_letters(
  partition INTEGER, offset INTEGER, integration TEXT, rule TEXT, dead_partition INTEGER, dead_offset INTEGER,
  reason TEXT, attempts INTEGER, status INTEGER, PRIMARY KEY(partition, offset, dead_partition, dead_offset)
) WITHOUT ROWID;
"""


class BlockRange(NamedTuple):
    """The blocks of a partition that are in a file; `number` is the partition's in that file."""

    number: int
    first: int
    last: int


def _tables() -> dict[str, str]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(SCHEMA)
        return dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'"))


_TABLES = _tables()


def connect(path: Path, *, query_only: bool = False) -> sqlite3.Connection:
    """Open a file of the ledger; any thread may use it, one at a time."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=60)
    connection.execute("PRAGMA page_size = 8192")
    if query_only:
        connection.execute("PRAGMA query_only = 1")
    else:
        connection.execute("PRAGMA journal_mode = WAL")
        # The data survives a killed process; after a power cut the last commits may be read from Kafka again.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA wal_autocheckpoint = 2000")
    connection.execute("PRAGMA cache_size = -20000")
    return connection


def has_tables(connection: sqlite3.Connection) -> bool:
    """Return whether the first commit of a file was completed."""
    return connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'offsets'").fetchone() is not None


def is_current(path: Path) -> bool:
    """Return whether a file has this version's tables or none yet."""
    with closing(connect(path, query_only=True)) as connection:
        found = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'"))
    return not found or _TABLES.items() <= found.items()


def path_of(folder: Path, day: date) -> Path:
    """Return the path of a day's file."""
    return folder / f"{PREFIX}{day.isoformat()}{SUFFIX}"


def days_in(folder: Path) -> list[date]:
    """Return the days that have a file, ascending."""
    found = []
    for path in folder.glob(f"{PREFIX}*{SUFFIX}"):
        try:
            found.append(date.fromisoformat(path.name[len(PREFIX) : -len(SUFFIX)]))
        except ValueError:
            continue
    return sorted(found)


class DayReader:
    """Reads one file."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def offsets(self) -> dict[Partition, int]:
        """Return the stored offsets; empty except in the newest file."""
        return {(topic, part): offset for topic, part, offset in self.connection.execute("SELECT * FROM offsets")}

    def partitions(self) -> dict[Partition, BlockRange]:
        """Return the partitions that have data here."""
        return {
            (topic, partition): BlockRange(number, first, last)
            for number, topic, partition, first, last in self.connection.execute("SELECT * FROM partitions")
        }

    def combos(self) -> dict[int, Combo]:
        """Return the combos by number."""
        return {number: Combo(*combo) for number, *combo in self.connection.execute("SELECT * FROM combos")}

    def kinds(self) -> dict[int, Kind]:
        """Return the kinds by number."""
        return {number: Kind(*kind) for number, *kind in self.connection.execute("SELECT * FROM kinds")}

    def find(self, index: str, key: bytes) -> list[Origin]:
        """Return the places of a hash in the index `ids` or `users`."""
        numbers = {int.from_bytes(value, "big") for value in radix_index.find(self.connection, index, key)}
        if not numbers:
            return []
        partitions = {number.number: partition for partition, number in self.partitions().items()}
        mask = (1 << OFFSET_BITS) - 1
        return sorted(Origin(*partitions[place >> OFFSET_BITS], place & mask) for place in numbers)

    def blocks(self, topic: str, partition: int, first: int, last: int) -> Iterator[Block]:
        """Return the blocks of a partition from number `first` to `last`, both included, in order."""
        found = self.partitions().get((topic, partition))
        if found is None:
            return
        combos, kinds = self.combos(), self.kinds()
        arguments = (found.number, max(first, found.first), min(last, found.last))
        where = "WHERE partition = ? AND block BETWEEN ? AND ? ORDER BY block"
        rows = heapq.merge(
            self.connection.execute(f"SELECT block, 0, kind, minute, bits FROM events {where}", arguments),  # noqa: S608  # of this function
            self.connection.execute(f"SELECT block, 1, combo, 0, bits FROM outcomes {where}", arguments),  # noqa: S608  # of this function
            key=itemgetter(0),
        )
        for number, group in groupby(rows, itemgetter(0)):
            its_kinds: dict[tuple[Kind, int], int] = {}
            its_outcomes: dict[Combo, int] = {}
            for _, is_outcome, key, minute, bits in group:
                if is_outcome:
                    its_outcomes[combos[key]] = bit_sets.decode(bits)
                else:
                    its_kinds[kinds[key], minute] = bit_sets.decode(bits)
            yield Block(topic, partition, number, its_kinds, its_outcomes)

    def remarks(self, place: Origin) -> list[Remark]:
        """Return the reasons and notes of an event."""
        return [
            Remark(*row)
            for row in self._of_place("SELECT integration, rule, outcome, reason, detail FROM remarks", place)
        ]

    def dead_letters(self, place: Origin) -> list[DeadLetterPlace]:
        """Return where the dead letters of an event are."""
        columns = "integration, rule, dead_partition, dead_offset, reason, attempts, status"
        return [DeadLetterPlace(place, *row) for row in self._of_place(f"SELECT {columns} FROM dead_letters", place)]  # noqa: S608  # columns of this line

    def _of_place(self, select: str, place: Origin) -> Iterator[Any]:
        found = self.partitions().get((place.topic, place.partition))
        if found is not None:
            yield from self.connection.execute(
                f"{select} WHERE partition = ? AND offset = ?", (found.number, place.offset)
            )

    def counts(self, since: int, until: int, step: int) -> Iterator[tuple[int, Kind, CountKey, int]]:
        """Return the counts by steps of MINUTE, HOUR or DAY seconds: start, kind, key and number."""
        table, column = COUNT_TABLES[step]
        kinds, keys = self.kinds(), self._count_keys()
        for at, kind, key, number in self.connection.execute(
            f"SELECT * FROM {table} WHERE {column} >= ? AND {column} < ? AND count != 0",  # noqa: S608  # names from the code
            (-(-since // step), -(-until // step)),
        ):
            yield at * step, kinds[kind], keys[key], number

    def _count_keys(self) -> dict[int, CountKey]:
        return {number: CountKey(*key) for number, *key in self.connection.execute("SELECT * FROM count_keys")}

    def span_of_reads(self, topic: str, partition: int) -> tuple[int, int] | None:
        """Return the first and last offset of a partition that a router is known to have read."""
        found = self.partitions().get((topic, partition))
        if found is None:
            return None
        ends = []
        select = "SELECT block, bits FROM outcomes WHERE partition = ? AND combo IN"
        select += " (SELECT id FROM combos WHERE outcome = 'read') ORDER BY block "
        for order in ("ASC", "DESC"):
            bits, block = 0, -1
            for number, data in self.connection.execute(select + order, (found.number,)):
                if block not in (-1, number):
                    break
                block, bits = number, bits | bit_sets.decode(data)
            if not bits:
                return None
            low = bits & -bits if order == "ASC" else bits
            ends.append((block << bit_sets.BLOCK_BITS) + low.bit_length() - 1)
        return ends[0], ends[1]


class DayWriter(DayReader):
    """Writes to one file, inside transactions that the caller begins and commits.

    It keeps numbers and blocks in memory, so it must be created again after a rollback.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__(connection)
        self.ranges = self.partitions()
        self._combos = self.combos()
        self._combo_numbers = {combo: number for number, combo in self._combos.items()}
        self._kind_numbers = {kind: number for number, kind in self.kinds().items()}
        self._key_numbers = {key: number for number, key in self._count_keys().items()}
        self._cache: OrderedDict[tuple[int, int], BlockState] = OrderedDict()
        self._indexes = {name: RadixIndex(connection, name) for name in ("ids", "users")}
        self._with_letters: set[tuple[int, int]] = set(
            connection.execute(f"SELECT DISTINCT partition, offset >> {bit_sets.BLOCK_BITS} FROM dead_letters")  # noqa: S608  # a number
        )

    @staticmethod
    def create_tables(connection: sqlite3.Connection) -> None:
        """Create the tables; part of the first commit, so that a file has either data or no tables."""
        for statement in SCHEMA.split(";\n"):
            connection.execute(statement)
        for index in ("ids", "users"):
            radix_index.create(connection, index)

    def extend(self, partition: Partition, block: int) -> BlockRange:
        """Record that a block is in this file."""
        found = self.ranges.get(partition)
        if found is not None and found.first <= block <= found.last:
            return found
        if found is None:
            found = BlockRange(len(self.ranges) + 1, block, block)
        found = BlockRange(found.number, min(found.first, block), max(found.last, block))
        self.connection.execute(
            "INSERT OR REPLACE INTO partitions VALUES (?, ?, ?, ?, ?)", (found.number, *partition, *found[1:])
        )
        self.ranges[partition] = found
        return found

    def change(
        self,
        partition: Partition,
        block: int,
        kinds: Sequence[tuple[Kind, int, int]],
        outcomes: Mapping[Combo, int],
    ) -> books.Deltas:
        """Add bits to a block and store them; returns the counts to add, which `count` stores.

        Args:
            partition: The topic and partition of the events.
            block: The number of the block.
            kinds: Kind, minute and bits of events that a router read.
            outcomes: Bits by recorded outcome.

        """
        number = self.extend(partition, block).number
        state = self._state(number, block)
        change = books.apply(
            state,
            [((self._kind(kind), minute), bits) for kind, minute, bits in kinds],
            {self._combo(combo): bits for combo, bits in outcomes.items()},
            self._combos,
        )
        self.connection.executemany(
            "INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?, ?)",
            [(number, block, *kind, bit_sets.encode(bits)) for kind, bits in change.kinds.items()],
        )
        self.connection.executemany(
            "INSERT OR REPLACE INTO outcomes VALUES (?, ?, ?, ?)",
            [(number, block, combo, bit_sets.encode(bits)) for combo, bits in change.outcomes.items()],
        )
        return change.counts

    def lost_blocks(self, partition: Partition, lost: LostDeliveries) -> Iterator[tuple[int, Mapping[Combo, int]]]:
        """Return the blocks in which deliveries are lost, with the bits of the outcome to add."""
        found = self.ranges.get(partition)
        if found is None:
            return
        select = "SELECT DISTINCT block FROM outcomes WHERE partition = ? AND block BETWEEN ? AND ? AND combo IN"
        select += " (SELECT id FROM combos WHERE integration = ? AND outcome = ?)"
        ends = lost.start >> bit_sets.BLOCK_BITS, lost.end >> bit_sets.BLOCK_BITS
        rows = self.connection.execute(select, (found.number, *ends, lost.integration, FORWARDED))
        for (block,) in rows.fetchall():
            outcomes = self._state(found.number, block).outcomes.items()
            if bits := books.find_lost(((self._combos[combo], bits) for combo, bits in outcomes), block, lost):
                yield block, bits

    def count(self, deltas: books.Deltas) -> None:
        """Add to the counts by minute, hour and day."""
        sums: dict[int, Counter[tuple[int, int, int]]] = {step: Counter() for step in COUNT_TABLES}
        for ((kind, minute), key), number in deltas.items():
            for step, its in sums.items():
                its[minute * MINUTE // step, kind, self._key(key)] += number
        for step, its in sums.items():
            self.connection.executemany(
                f"INSERT INTO {COUNT_TABLES[step][0]} VALUES (?, ?, ?, ?)"  # noqa: S608  # names from the code
                " ON CONFLICT DO UPDATE SET count = count + excluded.count",
                [(*key, number) for key, number in its.items() if number],
            )

    def index(self, ids: Iterable[bytes], users: Iterable[bytes]) -> None:
        """Add entries to the indexes; called once per commit."""
        self._indexes["ids"].add(ids)
        self._indexes["users"].add(users)

    def remark(self, place: Origin, remark: Remark) -> None:
        """Store a reason or note."""
        number = self.ranges[place.topic, place.partition].number
        self.connection.execute(
            "INSERT OR IGNORE INTO remarks VALUES (?, ?, ?, ?, ?, ?, ?)", (number, place.offset, *remark)
        )

    def bury(self, letter: DeadLetterPlace) -> bool:
        """Store a dead letter's place; returns whether its delivery has since succeeded."""
        place = letter.place
        number = self.ranges[place.topic, place.partition].number
        block = place.offset >> bit_sets.BLOCK_BITS
        self._with_letters.add((number, block))
        self.connection.execute(
            "INSERT OR IGNORE INTO dead_letters VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (number, place.offset, *letter[1:])
        )
        bit = bit_sets.of(block, place.offset)
        delivered = letter.integration, letter.rule, Outcome.DELIVERED
        return any(
            bits & bit and (combo.integration, combo.rule, combo.outcome) == delivered
            for number, bits in self._state(number, block).outcomes.items()
            if (combo := self._combos[number])
        )

    def delivered_letters(
        self, partition: Partition, block: int, outcomes: Mapping[Combo, int]
    ) -> Iterator[tuple[int, int]]:
        """Return the dead-topic places of a block's dead letters whose deliveries succeeded according to `outcomes`."""
        number = self.ranges[partition].number
        if (number, block) not in self._with_letters:
            return
        select = "SELECT offset, dead_partition, dead_offset FROM dead_letters WHERE partition = ?"
        select += " AND offset BETWEEN ? AND ? AND integration = ? AND rule = ?"
        start = block << bit_sets.BLOCK_BITS
        for combo, bits in outcomes.items():
            if combo.outcome == Outcome.DELIVERED and bits:
                ends = start + (bits & -bits).bit_length() - 1, start + bits.bit_length() - 1
                for offset, *dead in self.connection.execute(select, (number, *ends, combo.integration, combo.rule)):
                    if bits & bit_sets.of(block, offset):
                        yield dead[0], dead[1]

    def store_offsets(self, offsets: Mapping[Partition, int]) -> None:
        """Store the offsets after this commit's records."""
        self.connection.executemany(
            "INSERT OR REPLACE INTO offsets VALUES (?, ?, ?)",
            [(*partition, next_) for partition, next_ in offsets.items()],
        )

    def _state(self, partition: int, block: int) -> BlockState:
        state = self._cache.get((partition, block))
        if state is None:
            execute, arguments = self.connection.execute, (partition, block)
            events = execute("SELECT kind, minute, bits FROM events WHERE partition = ? AND block = ?", arguments)
            kinds: dict[KindAndMinute, int] = {(kind, minute): bit_sets.decode(bits) for kind, minute, bits in events}
            outcomes = execute("SELECT combo, bits FROM outcomes WHERE partition = ? AND block = ?", arguments)
            state = BlockState(kinds, {combo: bit_sets.decode(bits) for combo, bits in outcomes})
            self._cache[partition, block] = state
            if len(self._cache) > CACHED_BLOCKS:
                self._cache.popitem(last=False)
        else:
            self._cache.move_to_end((partition, block))
        return state

    def _kind(self, kind: Kind) -> int:
        if kind not in self._kind_numbers and len(self._kind_numbers) >= MAX_KINDS:
            kind = kind._replace(name=OTHER_NAME)
        return self._number("kinds", self._kind_numbers, kind)

    def _combo(self, combo: Combo) -> int:
        number = self._number("combos", self._combo_numbers, combo)
        self._combos[number] = combo
        return number

    def _key(self, key: CountKey) -> int:
        return self._number("count_keys", self._key_numbers, key)

    def _number(self, table: str, numbers: dict[Any, int], value: tuple[Any, ...]) -> int:
        number = numbers.get(value)
        if number is None:
            number = numbers[value] = len(numbers) + 1
            places = ", ".join("?" * (len(value) + 1))
            self.connection.execute(f"INSERT INTO {table} VALUES ({places})", (number, *value))  # noqa: S608  # a name from the code
        return number
