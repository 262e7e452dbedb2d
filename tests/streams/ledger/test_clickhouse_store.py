"""The ClickHouse store survives being killed at any statement, allows one writer, and forgets old days."""

from pathlib import Path
from uuid import uuid4

import pytest

from streams.ledger import clickhouse_store
from streams.ledger.clickhouse_client import ClickHouseClient
from streams.ledger.clickhouse_store import ClickHouseReader, ClickHouseStore
from streams.ledger.settings import ClickHouseAddress
from streams.ledger.store import StoreError, StoreInUseError
from streams.records.outcomes import OutcomeDetail, OutcomeInterval
from streams.records.run_header import hash_id
from tests.streams.ledger.making import DAY_MS, START_MS, Oracle, Records, counts_of, feed
from tests.streams.ledger.steps import KEY, check
from tests.support.clickhouse import database_for, kept

pytestmark = pytest.mark.clickhouse

INSERTS = 11
"""The inserts of the second batch."""


class KilledError(BaseException):
    """The end of a process in the middle of a commit."""


@pytest.fixture
def settings() -> ClickHouseAddress:
    return database_for(Path(uuid4().hex))


def records() -> Records:
    """Two batches; the second changes counts of the first, closes a dead letter, and has one of everything."""
    made = Records()
    made.run(0, range(10), [OutcomeInterval("ga4", "r", "forwarded", 0, 9)], names=("A", "B"))
    made.dead(0, 3, "ga4", "r")
    made.outcomes(
        0, [OutcomeInterval("ga4", "r", "delivered", 0, 5)], [OutcomeDetail("ga4", "r", "dead", 7, "status", "")]
    )
    made.run(0, range(10, 15), [OutcomeInterval("ga4", "", "filtered", 10, 14)])
    made.dead(0, 7, "ga4", "r", detail="too long")
    made.rejected(1, None, "json")
    return made


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("statement", range(1, INSERTS + 1))
def test_a_process_that_is_killed_at_any_statement_counts_nothing_twice(
    settings: ClickHouseAddress, monkeypatch: pytest.MonkeyPatch, statement: int, *, before: bool
):
    """The next process finishes a batch whose journal was written, and reads the records of any other again."""
    made = records().made
    store = ClickHouseStore(settings, KEY, 7)
    feed(store, made[:2])
    insert, left = ClickHouseClient.insert, statement

    def killed(self: ClickHouseClient, table: str, columns: str, rows: object, token: str | None = None) -> None:
        nonlocal left
        some = list(rows)  # type: ignore[call-overload]
        left -= bool(some)
        if some and left == 0 and before:
            raise KilledError
        insert(self, table, columns, some, token)
        if some and left == 0:
            raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(ClickHouseClient, "insert", killed)
        patched.setattr(ClickHouseStore, "_open", lambda _: None)  # a killed process repairs nothing
        with pytest.raises(KilledError):
            feed(store, made)
    store = ClickHouseStore(settings, KEY, 7)
    # The rest comes in other batches than before.
    feed(store, made, 1)
    check(store, Oracle(made))
    store.close()


def test_a_batch_has_as_many_inserts_as_are_tested(settings: ClickHouseAddress, monkeypatch: pytest.MonkeyPatch):
    """The test above covers every insert of a batch."""
    store = ClickHouseStore(settings, KEY, 7)
    made = records().made
    feed(store, made[:2])
    tables: list[str] = []
    insert = ClickHouseClient.insert

    def counted(self: ClickHouseClient, table: str, columns: str, rows: object, token: str | None = None) -> None:
        some = list(rows)  # type: ignore[call-overload]
        tables.extend([table] if some else [])
        insert(self, table, columns, some, token)

    monkeypatch.setattr(ClickHouseClient, "insert", counted)
    feed(store, made)
    assert len(tables) == INSERTS, tables
    store.close()


def test_a_second_writer_does_not_begin(settings: ClickHouseAddress, monkeypatch: pytest.MonkeyPatch):
    """While the first shows signs of life, the second is an error; it begins when the first has ended."""
    monkeypatch.setattr(clickhouse_store, "LEASE_SECONDS", 120.0)
    monkeypatch.setattr(clickhouse_store, "BEAT_SECONDS", 0.0)
    one = ClickHouseStore(settings, KEY, 7)
    made = records().made
    feed(one, made[:1])
    with kept(one), pytest.raises(StoreInUseError, match="another ledger process writes"):
        ClickHouseStore(settings, KEY, 7)
    one.close()
    other = ClickHouseStore(settings, KEY, 7)
    feed(other, made)
    check(other, Oracle(made))
    other.close()


def test_a_writer_that_was_replaced_ends(settings: ClickHouseAddress):
    """It was silent for too long, and counts nothing when it wakes up, whether or not the other has written."""
    made = records().made
    for fed in ([], made[:1]):
        one = ClickHouseStore(settings, KEY, 7)
        other = ClickHouseStore(settings, KEY, 7)
        feed(other, fed)
        with pytest.raises(StoreInUseError, match="another ledger process writes"):
            feed(one, made[:1])
        one.close()
        feed(other, made)
        check(other, Oracle(made))
        other.close()


def test_expired_days_leave_counts_by_hour(settings: ClickHouseAddress):
    """Ids and outcomes of a day are removed, counts by hour stay, and late outcomes of its events change nothing."""
    store = ClickHouseStore(settings, KEY, 7)
    made = Records()
    made.run(0, range(10), [OutcomeInterval("ga4", "r", "forwarded", 0, 9)])
    made.run(0, range(5000, 5010), [OutcomeInterval("ga4", "r", "forwarded", 5000, 5009)], at=START_MS + 3 * DAY_MS)
    feed(store, made.made, 1)
    before = counts_of(store, 3600)
    assert before == Oracle(made.made).counts(3600)
    store.expire(START_MS / 1000 + 9 * DAY_MS / 1000)
    assert (store.find_id(hash_id("m-0-7")), len(store.find_id(hash_id("m-0-5007")))) == ([], 1)
    made.outcomes(0, [OutcomeInterval("ga4", "r", "delivered", 0, 9)], at=START_MS + 3 * DAY_MS)
    feed(store, made.made)
    store.close()
    reader = ClickHouseReader(settings, KEY)
    assert counts_of(reader, 3600) == before
    reader.close()


def test_a_wrong_password_and_no_server_are_one_line(settings: ClickHouseAddress):
    """The message names the address, and neither the password nor data."""
    for wrong in ({"password": "secret-7"}, {"url": "http://127.0.0.1:1/t"}):
        with pytest.raises(StoreError, match=r"^ClickHouse at http://127.0.0.1:[0-9]+/t[0-9a-f]* fails: ") as caught:
            ClickHouseStore(ClickHouseAddress(**{**settings.model_dump(), **wrong}), KEY, 7)
        assert "secret-7" not in str(caught.value)
