"""Store the ledger in SQLite files, one per day; the default.

A block of 4,096 offsets stays in the file of the day whose outcome record first mentioned it, so deleting a file
removes a day's data. A commit is one transaction of the newest file, which has the offsets. Changes of blocks in older
files are committed first. After a crash between these commits the records are read again, and change nothing in the
older files.

When a day's file is removed, its counts by hour and day stay in HISTORY_FILE. The groups of dead letters are in a file
of their own, which is committed before the days' files.
"""

import fcntl
import heapq
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import IO

import structlog

from streams import clock
from streams.ledger import books, catalog_file, day_file, dead_file
from streams.ledger.bit_sets import BLOCK_BITS
from streams.ledger.catalog import CatalogRow
from streams.ledger.catalog_file import CatalogFile
from streams.ledger.day_file import COUNT_TABLES, DAY, HOUR, MINUTE, OFFSET_BITS, DayReader, DayWriter
from streams.ledger.dead_file import DEAD_FILE, DeadLetterFile
from streams.ledger.facts import BatchFacts, keyed
from streams.ledger.store import (
    Block,
    BuriedLetter,
    Combo,
    Count,
    CountKey,
    DeadGroup,
    DeadLetterPlace,
    LedgerBatch,
    NoUserIndexError,
    Partition,
    Remark,
    StoreError,
    StoreInUseError,
)
from streams.records.event import Origin
from streams.records.run_header import Kind
from streams.topics import PARKED_RETENTIONS

log = structlog.get_logger()

HISTORY_FILE = "history.db"
LOCK_FILE = "lock"
HISTORY_DAYS = 396
"""Days that counts by hour and day are kept: 13 months."""


HISTORY = """
CREATE TABLE IF NOT EXISTS hours(
  day TEXT, time INTEGER, source TEXT, type TEXT, name TEXT, integration TEXT, rule TEXT, outcome TEXT, reason TEXT,
  count INTEGER
);
CREATE INDEX IF NOT EXISTS hours_by_time ON hours(time);
CREATE TABLE IF NOT EXISTS days(
  day TEXT, time INTEGER, source TEXT, type TEXT, name TEXT, integration TEXT, rule TEXT, outcome TEXT, reason TEXT,
  count INTEGER
);
CREATE INDEX IF NOT EXISTS days_by_time ON days(time);
CREATE TABLE IF NOT EXISTS removed_days(day TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS removed_blocks(topic TEXT, partition INTEGER, below INTEGER, PRIMARY KEY(topic, partition));
"""


class SqliteReader:
    """Reads the ledger's files, also while another process writes them.

    Use it in one thread at a time.

    Args:
        folder: The folder of the store.
        user_key: The key of the index of users, or None.

    """

    def __init__(self, folder: Path, user_key: bytes | None) -> None:
        self._folder, self._user_key = folder, user_key
        self._readers: dict[date, DayReader] = {}

    def close(self) -> None:
        """Close the files."""
        for reader in self._readers.values():
            reader.connection.close()
        self._readers.clear()

    def offsets(self) -> Mapping[Partition, int]:
        """Implements `Reader.offsets`."""
        for reader in reversed(self._files()):
            if found := reader.offsets():
                return found
        return {}

    def partitions(self) -> Mapping[Partition, tuple[int, int]]:
        """Implements `Reader.partitions`."""
        found: dict[Partition, tuple[int, int]] = {}
        for reader in self._files():
            for partition in reader.partitions():
                span = reader.span_of_reads(*partition)
                if span is not None:
                    first, last = found.get(partition, span)
                    found[partition] = min(first, span[0]), max(last, span[1])
        return found

    def find_id(self, id_hash: bytes) -> Sequence[Origin]:
        """Implements `Reader.find_id`."""
        return [place for reader in self._files() for place in reader.find("ids", id_hash)]

    def find_user(self, user_hash: bytes) -> Sequence[Origin]:
        """Implements `Reader.find_user`."""
        if self._user_key is None:
            raise NoUserIndexError("the ledger has no index of users: set `ledger: {user_key: …}` in turnout.yaml")
        key = keyed(user_hash, self._user_key)
        return [place for reader in self._files() for place in reader.find("users", key)]

    def blocks(self, topic: str, partition: int, first: int, end: int) -> Iterator[Block]:
        """Implements `Reader.blocks`."""
        if end <= first:
            return
        numbers = first >> BLOCK_BITS, (end - 1) >> BLOCK_BITS
        # A block is in one file, and a newer file has later blocks of a partition, but for those that came late.
        found = [reader.blocks(topic, partition, *numbers) for reader in self._files()]
        yield from heapq.merge(*found, key=lambda block: block.number)

    def combos(self) -> Collection[Combo]:
        """Implements `Reader.combos`."""
        return {combo for reader in self._files() for combo in reader.combos().values()}

    def remarks(self, place: Origin) -> Sequence[Remark]:
        """Implements `Reader.remarks`."""
        return [remark for reader in self._files() for remark in reader.remarks(place)]

    def dead_letters(self, place: Origin) -> Sequence[DeadLetterPlace]:
        """Implements `Reader.dead_letters`."""
        return [letter for reader in self._files() for letter in reader.dead_letters(place)]

    def dead_groups(self, hours_since: int) -> Sequence[DeadGroup]:
        """Implements `Reader.dead_groups`."""
        return dead_file.read_groups(self._folder, hours_since)

    def catalog(self) -> Sequence[CatalogRow]:
        """Implements `Reader.catalog`."""
        return catalog_file.read_catalog(self._folder)

    def counts(self, since: int, until: int, step: int = MINUTE) -> Iterator[Count]:
        """Implements `Reader.counts`."""
        sums: Counter[tuple[int, Kind, CountKey]] = Counter()
        # A day's file has no events of later days, but for the clocks of other machines.
        oldest = datetime.fromtimestamp(since, UTC).date() - timedelta(days=2)
        for reader in self._files(oldest):
            for start, kind, key, number in reader.counts(since, until, step):
                sums[start, kind, key] += number
        if step != MINUTE and (self._folder / HISTORY_FILE).exists():
            with closing(day_file.connect(self._folder / HISTORY_FILE, query_only=True)) as history:
                rows = f"SELECT * FROM {COUNT_TABLES[step][0]} WHERE time >= ? AND time < ?"  # noqa: S608  # from the code
                for _, start, source, kind, name, *key, number in history.execute(rows, (since, until)):
                    sums[start, Kind(source, kind, name), CountKey(*key)] += number
        for (start, kind, key), number in sorted(sums.items(), key=lambda item: item[0][0]):
            if number:
                yield Count(start, kind, key, number)

    def _files(self, oldest: date = date.min) -> list[DayReader]:
        """Return the files of a day and later ones, oldest first."""
        days = [day for day in day_file.days_in(self._folder) if day >= oldest]
        for day in {day for day in self._readers if day >= oldest} - set(days):
            self._readers.pop(day).connection.close()
        for day in days:
            if day not in self._readers:
                connection = day_file.connect(day_file.path_of(self._folder, day), query_only=True)
                if day_file.has_tables(connection):
                    self._readers[day] = DayReader(connection)
                else:
                    connection.close()
        return [self._readers[day] for day in days if day in self._readers]


class SqliteStore(SqliteReader):
    """Writes the ledger's files; one process at a time.

    Args:
        folder: The folder of the store, which is created.
        user_key: The key of the index of users; without it no such index is written.
        retention_days: Days that Kafka keeps events.

    Raises:
        StoreInUseError: Another process uses the folder.

    """

    def __init__(self, folder: Path, user_key: bytes | None, retention_days: int) -> None:
        super().__init__(folder, user_key)
        self._retention = retention_days
        self._writers: dict[date, DayWriter] = {}
        self._others = ExitStack()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = _lock(folder)
        try:
            self._open()
        except sqlite3.Error as error:
            self.close()
            raise StoreError(f"{folder}: {error}") from error

    def _open(self) -> None:
        self._set_aside_other_versions()
        self._dead = self._others.enter_context(closing(DeadLetterFile(self._folder)))
        self._catalog = self._others.enter_context(closing(CatalogFile(self._folder)))
        self._history = self._others.enter_context(closing(day_file.connect(self._folder / HISTORY_FILE)))
        self._history.executescript(HISTORY)
        for (day,) in self._history.execute("SELECT day FROM removed_days"):
            _remove(day_file.path_of(self._folder, date.fromisoformat(day)))
        self._removed: dict[Partition, int] = {
            (topic, partition): below
            for topic, partition, below in self._history.execute("SELECT * FROM removed_blocks")
        }
        for day in day_file.days_in(self._folder):
            connection = day_file.connect(day_file.path_of(self._folder, day))
            if day_file.has_tables(connection):
                self._writers[day] = DayWriter(connection)
            else:
                connection.close()
                _remove(day_file.path_of(self._folder, day))
        self._offsets = dict(self.offsets())

    def _set_aside_other_versions(self) -> None:
        """Move files of another version of Turnout into a subfolder; records still in Kafka are read again.

        Counts of days that were removed stay, since Kafka no longer has these days.
        """
        days = day_file.days_in(self._folder)
        if all(day_file.is_current(day_file.path_of(self._folder, day)) for day in days):
            return
        aside = self._folder / f"other-version-{time.time_ns()}"
        aside.mkdir(mode=0o700)
        for path in (*(day_file.path_of(self._folder, day) for day in days), self._folder / DEAD_FILE):
            for name in _names(path):
                if name.exists():
                    name.rename(aside / name.name)
        log.warning(
            "the ledger's files are of another version; reading from Kafka again", set_aside=str(aside), days=len(days)
        )

    def close(self) -> None:
        """Implements `Reader.close`."""
        super().close()
        self._close_files()
        self._lock.close()

    def _close_files(self) -> None:
        for writer in self._writers.values():
            writer.connection.close()
        self._writers.clear()
        self._others.close()

    def write(self, batch: LedgerBatch) -> None:
        """Implements `Store.write`."""
        with self._reopening():
            self._write(batch)

    def keep(self) -> None:
        """Implements `Store.keep`: nothing to do, since the folder's lock ends with the process."""

    @contextmanager
    def _reopening(self) -> Iterator[None]:
        """Roll back and reopen the files after an error: numbers and blocks in memory may be ahead of the files."""
        try:
            yield
        except BaseException as error:
            self._close_files()
            self._open()
            if isinstance(error, sqlite3.Error):
                raise StoreError(f"{self._folder}: {error}") from error
            raise

    def _write(self, batch: LedgerBatch) -> None:
        newest = self._newest(batch.time_ms)
        commits: dict[date, _Commit] = {newest: _Commit(self._writer(newest))}

        def commit_of(partition: Partition, block: int) -> _Commit | None:
            day = self._day_of(partition, block, newest)
            if day is not None and day not in commits:
                commits[day] = _Commit(self._writers[day])
            return commits[day] if day is not None else None

        handled = [*batch.handled, *_store(BatchFacts(batch, self._user_key), batch.dead, commit_of)]
        for topic, partition, lost in batch.lost_deliveries:
            for day, writer in self._writers.items():
                for block, bits in writer.lost_blocks((topic, partition), lost):
                    if day not in commits:
                        commits[day] = _Commit(writer)
                    commits[day].counts.update(writer.change((topic, partition), block, (), bits))
        if batch.dead or handled:
            self._dead.write(batch.dead, handled)
        self._offsets.update(batch.offsets)
        last = commits.pop(newest)
        for commit in commits.values():
            commit.finish()
        last.writer.store_offsets(self._offsets)
        last.finish()
        if batch.samples:
            self._catalog.add(batch.samples)

    def _newest(self, time_ms: int) -> date:
        """Return the day whose file gets new blocks."""
        now = clock.time()
        if not time_ms:  # a batch without records, only with offsets
            time_ms = 0 if self._writers else int(now * 1000)
        day = datetime.fromtimestamp(min(time_ms / 1000, now), UTC).date()
        return max([day, *self._writers])

    def _writer(self, day: date) -> DayWriter:
        if day not in self._writers:
            connection = day_file.connect(day_file.path_of(self._folder, day))
            connection.execute("BEGIN IMMEDIATE")
            DayWriter.create_tables(connection)
            self._writers[day] = DayWriter(connection)
        return self._writers[day]

    def _day_of(self, partition: Partition, block: int, newest: date) -> date | None:
        """Return the day whose file has, or will have, a block; None if the file was removed."""
        if block < self._removed.get(partition, 0):
            return None
        days = [day for day in sorted(self._writers, reverse=True) if partition in self._writers[day].ranges]
        if not days:
            return newest
        if days[0] != newest and block > self._writers[days[0]].ranges[partition].last:
            return newest
        return next((day for day in days if self._writers[day].ranges[partition].first <= block), days[-1])

    def _files(self, oldest: date = date.min) -> list[DayReader]:
        return [self._writers[day] for day in sorted(self._writers) if day >= oldest]

    def expire(self, now: float) -> None:
        """Implements `Store.expire`."""
        self._dead.expire(int(now - PARKED_RETENTIONS * self._retention * DAY))
        self._catalog.expire(int(now - HISTORY_DAYS * DAY))
        today = datetime.fromtimestamp(now, UTC).date()
        with self._reopening():
            for day in sorted(self._writers)[:-1]:  # the newest has the offsets
                if day < today - timedelta(days=self._retention + 1):
                    self._expire_day(day)
            for table in ("hours", "days"):
                oldest = now - HISTORY_DAYS * DAY
                self._history.execute(f"DELETE FROM {table} WHERE time < ?", (oldest,))  # noqa: S608  # of this function

    def _expire_day(self, day: date) -> None:
        writer = self._writers[day]
        self._history.execute("BEGIN IMMEDIATE")
        for step in (HOUR, DAY):
            self._history.executemany(
                f"INSERT INTO {COUNT_TABLES[step][0]} VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608  # from the code
                [
                    (day.isoformat(), start, *kind, *key, number)
                    for start, kind, key, number in writer.counts(0, 2**40, step)
                ],
            )
        removed = {partition: found.last + 1 for partition, found in writer.ranges.items()}
        for partition, below in removed.items():
            self._removed[partition] = max(below, self._removed.get(partition, 0))
            self._history.execute(
                "INSERT OR REPLACE INTO removed_blocks VALUES (?, ?, ?)", (*partition, self._removed[partition])
            )
        self._history.execute("INSERT INTO removed_days VALUES (?)", (day.isoformat(),))
        self._history.execute("COMMIT")
        self._writers.pop(day).connection.close()
        _remove(day_file.path_of(self._folder, day))


class _Commit:
    """A transaction of one file: collects the index entries and counts of a batch, and ends with `finish`."""

    def __init__(self, writer: DayWriter) -> None:
        self.writer = writer
        self.ids: list[bytes] = []
        self.users: list[bytes] = []
        self.counts: books.Deltas = Counter()
        if not writer.connection.in_transaction:
            writer.connection.execute("BEGIN IMMEDIATE")

    def finish(self) -> None:
        """Store the collected entries and counts, and commit."""
        self.writer.count(self.counts)
        self.writer.index(self.ids, self.users)
        self.writer.connection.execute("COMMIT")


def _store(
    facts_of_batch: BatchFacts, dead: Sequence[BuriedLetter], commit_of: "_CommitOf"
) -> Iterator[tuple[int, int]]:
    """Write a batch into the transactions that `commit_of` returns by partition and block.

    Returns the places in the dead topic of dead letters whose delivery has succeeded.
    """
    for partition, facts in facts_of_batch.partitions.items():
        outcomes = facts.outcomes_by_block()
        for block in sorted({*facts.kinds, *outcomes, *facts.ids, *facts.users}):
            commit = commit_of(partition, block)
            if commit is None:
                continue
            deltas = commit.writer.change(partition, block, facts.kinds.get(block, ()), outcomes.get(block, {}))
            for key, number in deltas.items():
                commit.counts[key] += number
            yield from commit.writer.delivered_letters(partition, block, outcomes.get(block, {}))
            prefix = commit.writer.ranges[partition].number << OFFSET_BITS
            for found, entries in ((facts.ids, commit.ids), (facts.users, commit.users)):
                entries.extend([one + (prefix | offset).to_bytes(8, "big") for offset, one in found.get(block, ())])
    for place, remark in facts_of_batch.remarks:
        if commit := commit_of(place[:2], place.offset >> BLOCK_BITS):
            commit.writer.extend(place[:2], place.offset >> BLOCK_BITS)
            commit.writer.remark(place, remark)
    for letter, *_ in dead:
        partition = letter.place[:2]
        if commit := commit_of(partition, letter.place.offset >> BLOCK_BITS):
            commit.writer.extend(partition, letter.place.offset >> BLOCK_BITS)
            if commit.writer.bury(letter):
                yield letter.partition, letter.offset


_CommitOf = Callable[[Partition, int], _Commit | None]


def _lock(folder: Path) -> IO[bytes]:
    lock = (folder / LOCK_FILE).open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise StoreInUseError(f"{folder} is in use by another ledger process") from error
    return lock


def _names(path: Path) -> tuple[Path, Path, Path]:
    """Return the names of a file and of SQLite's files beside it."""
    return path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")


def _remove(path: Path) -> None:
    for name in _names(path):
        name.unlink(missing_ok=True)
