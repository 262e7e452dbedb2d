"""The SQLite store survives crashes, locks its folder, and forgets old days."""

import sqlite3
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.ledger.sqlite_store import SqliteReader, SqliteStore
from streams.ledger.store import StoreInUseError, total
from streams.records.event import Origin
from streams.records.outcomes import OutcomeDetail, OutcomeInterval
from streams.records.rejected import rejected_headers
from streams.records.run_header import hash_id
from tests.streams.ledger.making import DAY_MS, START_MS, TOPICS, Oracle, Records, counts_of, feed
from tests.streams.ledger.steps import KEY, MEMORY, STEPS, check, make
from tests.support import fuzzing


class CrashError(Exception):
    """The end of a process in the middle of a commit."""


@settings(max_examples=fuzzing.examples(30))
@given(STEPS, st.integers(1, 4), st.integers(0, 60))
def test_a_crash_between_any_two_statements_counts_nothing_twice(steps: list, chunk: int, statements: int):
    """After a rollback or a half-finished commit over several files, the records come again and counts are right."""
    records = make(steps).made
    with TemporaryDirectory(dir=MEMORY) as folder:
        store = SqliteStore(Path(folder), KEY, 7)
        left = statements

        def count(connection: sqlite3.Connection, statement: str) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise CrashError

        crash_on_statements(store, count)
        try:
            feed(store, records, chunk)
        except CrashError:
            store.close()
            store = SqliteStore(Path(folder), KEY, 7)
            feed(store, records, chunk)
        left = 0
        check(store, Oracle(records))
        store.close()


def crash_on_statements(store: SqliteStore, count) -> None:
    """Call `count` before each statement of the files' connections."""
    original = store._writer
    store._dead._connection = Traced(store._dead._connection, count)

    def writer(day):
        found = original(day)
        if not isinstance(found.connection, Traced):
            for holder in (found, *found._indexes.values()):
                name = "connection" if holder is found else "_connection"
                setattr(holder, name, Traced(getattr(holder, name), count))
        return found

    store._writer = writer


class Traced:
    """A connection that reports each statement."""

    def __init__(self, connection: sqlite3.Connection, count) -> None:
        self._connection, self._count = connection, count

    def execute(self, statement: str, *arguments):
        self._count(self._connection, statement)
        return self._connection.execute(statement, *arguments)

    def executemany(self, statement: str, *arguments):
        self._count(self._connection, statement)
        return self._connection.executemany(statement, *arguments)

    def __getattr__(self, name: str):
        return getattr(self._connection, name)


def test_a_second_process_cannot_use_the_folder(tmp_path: Path):
    """The store of a live process is locked; the lock ends with the process, however it ends."""
    program = (
        "import sys, pathlib; from streams.ledger.sqlite_store import SqliteStore;"
        f"store = SqliteStore(pathlib.Path({str(tmp_path)!r}), None, 7); print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout
        assert other.stdout.readline() == "open\n"
        with pytest.raises(StoreInUseError, match="in use by another ledger process"):
            SqliteStore(tmp_path, None, 7)
        other.kill()
    SqliteStore(tmp_path, None, 7).close()


def test_without_a_key_no_digest_of_a_user_is_written(tmp_path: Path):
    """The table of users stays empty."""
    store = SqliteStore(tmp_path, None, 7)
    records = Records()
    records.run(0, range(10), [])
    feed(store, records.made)
    store.close()
    (path,) = tmp_path.glob("ledger-*.db")
    assert sqlite3.connect(path).execute("SELECT count(*) FROM users").fetchone() == (0,)


def test_a_reader_beside_the_writer_sees_its_commits(tmp_path: Path):
    """Another process may read while the ledger writes: new data, new days, and days that were removed."""
    reader = SqliteReader(tmp_path, KEY)
    assert (dict(reader.offsets()), list(reader.counts(0, 2**40))) == ({}, [])
    store = SqliteStore(tmp_path, KEY, 7)
    records = Records()
    for day in range(3):
        first = day * 5000
        records.run(
            0,
            range(first, first + 10),
            [OutcomeInterval("ga4", "r", "forwarded", first, first + 9)],
            at=START_MS + day * DAY_MS,
        )
        feed(store, records.made)
        check(reader, Oracle(records.made))
    store.expire(START_MS / 1000 + 9 * DAY_MS / 1000)
    assert reader.find_id(hash_id("m-0-3")) == []
    assert counts_of(reader, 3600) == Oracle(records.made).counts(3600)
    store.close()
    check_after = SqliteReader(tmp_path, KEY)
    assert counts_of(check_after, 3600) == counts_of(reader, 3600)
    reader.close()
    check_after.close()


def test_no_file_has_a_persons_data(tmp_path: Path):
    """Neither ids of users nor their hashes without the key, nor vendors' answers are in any file."""
    store = SqliteStore(tmp_path, KEY, 7)
    records = Records()
    users = [b"user-%d@example.com" % number for number in range(1000)]
    records.run(0, range(10), [OutcomeInterval("ga4", "r", "forwarded", 0, 9)])
    for number, name in enumerate(users):
        records.add(TOPICS.rejected, 0, b'{"messageId": "x%d"}' % number, rejected(), key=name)
    detail = f"no such user: {users[5].decode()}"
    records.outcomes(
        0, [OutcomeInterval("ga4", "r", "dead", 3, 3)], [OutcomeDetail("ga4", "r", "dead", 3, "status", detail)]
    )
    records.dead(0, 3, "ga4", "r")
    feed(store, records.made, 100)
    assert store.find_user(hash_id(users[17])) == [Origin(TOPICS.rejected, 0, 17)]
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    store.close()
    content += b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"example" not in content
    assert not [name for name in users if name in content or hash_id(name) in content]
    assert hash_id("m-0-3") in content, "the search finds hashes that are there"


def rejected() -> list[tuple[str, bytes]]:
    return rejected_headers("json", "not JSON", "web", None)


def test_expired_days_leave_counts_by_hour(tmp_path: Path):
    """When a day's file is removed, its counts by hour stay, and late outcomes of its events change nothing."""
    store = SqliteStore(tmp_path, KEY, 7)
    records = Records()
    records.run(0, range(10), [OutcomeInterval("ga4", "r", "forwarded", 0, 9)])
    records.run(0, range(5000, 5010), [OutcomeInterval("ga4", "r", "forwarded", 5000, 5009)], at=START_MS + 2 * DAY_MS)
    feed(store, records.made, 1)
    before, days = counts_of(store, 3600), counts_of(store, 86400)
    assert before == Oracle(records.made).counts(3600)
    assert len(list(tmp_path.glob("ledger-*.db"))) == 2
    store.expire(START_MS / 1000 + 8 * DAY_MS / 1000)
    assert len(list(tmp_path.glob("ledger-*.db"))) == 2
    store.expire(START_MS / 1000 + 9 * DAY_MS / 1000)
    assert [path.name for path in tmp_path.glob("ledger-*.db")] == ["ledger-2026-09-23.db"]
    assert counts_of(store, 3600) == before
    assert store.find_id(hash_id("m-0-7")) == []
    records.outcomes(0, [OutcomeInterval("ga4", "r", "delivered", 0, 9)], at=START_MS + 3 * DAY_MS)
    feed(store, records.made)
    assert counts_of(store, 3600) == before
    store.close()
    store = SqliteStore(tmp_path, KEY, 7)
    assert counts_of(store, 3600) == before
    assert counts_of(store, 86400) == days
    assert dict(store.offsets()) == {(TOPICS.outcomes, 0): 3}
    store.expire(START_MS / 1000 + 500 * DAY_MS / 1000)
    assert not counts_of(store, 86400)
    assert not counts_of(store, 3600), "counts by hour are kept for 13 months"
    assert dict(store.offsets()) == {(TOPICS.outcomes, 0): 3}, "the newest file has the offsets, and stays"
    store.close()


def test_many_event_names_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Names come from clients: beyond a number they are counted as one, and no event is lost."""
    monkeypatch.setattr("streams.ledger.day_file.MAX_KINDS", 5)
    store = SqliteStore(tmp_path, KEY, 7)
    records = Records()
    records.run(
        0, range(60), [OutcomeInterval("ga4", "r", "forwarded", 0, 59)], names=[f"n{number}" for number in range(60)]
    )
    feed(store, records.made)
    found = [count for count in store.counts(0, 2**40) if count.key.outcome == "forwarded"]
    assert total(found) == 60
    assert {count.kind.name for count in found} == {"n0", "n1", "n2", "n3", "n4", "(other)"}
    store.close()


def test_a_crash_while_a_day_is_removed_counts_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The counts by hour are stored before the file is deleted, and the next start deletes it."""
    store = SqliteStore(tmp_path, KEY, 7)
    records = Records()
    records.run(0, range(10), [OutcomeInterval("ga4", "r", "forwarded", 0, 9)])
    records.run(0, range(5000, 5010), [], at=START_MS + 3 * DAY_MS)
    feed(store, records.made, 1)
    before = counts_of(store, 3600)

    def crash(_: Path) -> None:
        raise CrashError

    with monkeypatch.context() as patched:
        patched.setattr("streams.ledger.sqlite_store._remove", crash)
        with pytest.raises(CrashError):
            store.expire(START_MS / 1000 + 10 * DAY_MS / 1000)
    store.close()
    store = SqliteStore(tmp_path, KEY, 7)
    assert counts_of(store, 3600) == before
    assert len(list(tmp_path.glob("ledger-*.db"))) == 1
    store.close()


def test_files_of_another_version_are_set_aside(tmp_path: Path):
    """The files of a folder with other tables are moved, and all records are read again."""
    made = Records()
    made.run(0, range(3), [OutcomeInterval("one", "r", "forwarded", 0, 2)])
    records = made.made
    store = SqliteStore(tmp_path, KEY, 7)
    feed(store, records)
    expected = counts_of(store)
    store.close()
    (file,) = tmp_path.glob("ledger-*.db")
    with sqlite3.connect(file) as connection:
        connection.execute("DROP TABLE hours")
    connection.close()
    store = SqliteStore(tmp_path, KEY, 7)
    assert store.offsets() == {}
    feed(store, records)
    assert counts_of(store) == expected
    (aside,) = tmp_path.glob("other-version-*")
    assert (aside / file.name).exists()
    store.close()
    again = SqliteStore(tmp_path, KEY, 7)
    assert again.offsets()
    again.close()
