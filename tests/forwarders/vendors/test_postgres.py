"""The postgres forwarder on a real PostgreSQL."""
# ruff: noqa: S608

import asyncio
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from pydantic import SecretStr

from forwarders.api.contract import (
    AuthFailed,
    Delivered,
    Delivery,
    OffsetRange,
    PermanentFailure,
    Result,
    Retry,
    Split,
)
from forwarders.vendors.postgres.forwarder import Postgres, PostgresSettings
from streams.kafka.settings import Broker
from streams.topics import Topics
from tests.support import real_postgres
from tests.support.delivering import Bench

PLACE = OffsetRange("t", 0, 0, 0)


@pytest.fixture(scope="session")
def dsn() -> Iterator[str]:
    """Start a real PostgreSQL once; skips if it is not installed, unless TURNOUT_TESTS_NEED_POSTGRES is set."""
    reason = real_postgres.why_not()
    if reason and not os.environ.get("TURNOUT_TESTS_NEED_POSTGRES"):
        pytest.skip(reason)
    with tempfile.TemporaryDirectory() as folder:  # short enough for a socket, and not below another user's folder
        Path(folder).chmod(0o755)
        with real_postgres.running(Path(folder) / "pg") as address:
            yield address


@pytest.fixture
def bench(broker: Broker, topics: Topics) -> Bench:
    """Delivery on the real Kafka."""
    return Bench(broker, topics)


@pytest.fixture
def table() -> str:
    return f"public.t{uuid4().hex[:8]}"


def item(number: int, **payload: Any) -> Delivery:
    return Delivery(f"m-{number}", payload, "track", None, "2026-01-02T03:04:05Z")


def settings(dsn: str, table: str, **more: Any) -> PostgresSettings:
    return PostgresSettings(dsn=SecretStr(dsn), table=table, **more)


def write(made: PostgresSettings, *batches: Sequence[Delivery]) -> list[Sequence[Result]]:
    async def run() -> list[Sequence[Result]]:
        forwarder = Postgres(made)
        await forwarder.open()
        results = [await forwarder.write(batch, PLACE) for batch in batches]
        await forwarder.close()
        return results

    return asyncio.run(run())


def do(dsn: str, *statements: str) -> None:
    with psycopg.connect(dsn) as connection:
        for statement in statements:
            connection.execute(statement)


def rows(dsn: str, query: str) -> list[Any]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query).fetchall()


def test_table_is_made_and_widened(dsn: str, table: str) -> None:
    """With `create`, the table and its columns come from the payloads; numbers, booleans and texts keep their type."""
    first = [item(1, a=1, b=True, c="x\ty\n\\", d={"e": ["é", None]}, n=None), item(2, a=2.5, big=2**63)]
    second = [item(3, **{"A b": "new"}, a=3)]
    assert write(settings(dsn, table, create=True), first, second) == [[Delivered()] * 2, [Delivered()]]
    assert rows(dsn, f'SELECT delivery_id, a, b, c, d, big, "A b" FROM {table} ORDER BY 1') == [
        ("m-1", 1, True, "x\ty\n\\", {"e": ["é", None]}, None, None),
        ("m-2", 2.5, None, None, None, 2**63, None),
        ("m-3", 3, None, None, None, None, "new"),
    ]


def test_repeat_changes_nothing(dsn: str, table: str) -> None:
    """A delivery that comes again, in another batch or twice in one, is one row."""
    made = settings(dsn, table, create=True)
    batches = [[item(1, a=1), item(2, a=2)], [item(2, a=9), item(3, a=3), item(3, a=9)]]
    assert write(made, *batches) == [[Delivered()] * 2, [Delivered()] * 3]
    assert rows(dsn, f"SELECT delivery_id, a FROM {table} ORDER BY 1") == [("m-1", 1), ("m-2", 2), ("m-3", 3)]


def test_field_without_column(dsn: str, table: str) -> None:
    """Without `create`, a row with a field that the table lacks is dead; others are inserted; null is ignored."""
    do(dsn, f"CREATE TABLE {table} (delivery_id text UNIQUE, a int)")
    (results,) = write(settings(dsn, table), [item(1, a=1), item(2, a=2, other=1), item(3, a=3, other=None)])
    assert results == [Delivered(), PermanentFailure("column", "the table has no column 'other'"), Delivered()]
    assert rows(dsn, f"SELECT a FROM {table} ORDER BY 1") == [(1,), (3,)]


@pytest.mark.parametrize("value", ["many", 2**40, "nul\0", {"n": "\0"}])
def test_value_that_does_not_fit(dsn: str, table: str, value: Any) -> None:
    """A batch with a value that its column does not take leaves nothing; alone, the bad row is dead, and not quoted."""
    kind = "jsonb" if isinstance(value, dict) else "text" if "nul" in str(value) else "int"
    do(dsn, f"CREATE TABLE {table} (delivery_id text UNIQUE, a {kind})")
    good = {"text": "1", "jsonb": {}, "int": 1}[kind]
    batch, alone, after = write(
        settings(dsn, table), [item(1, a=good), item(2, a=value)], [item(2, a=value)], [item(1, a=good)]
    )
    assert batch == [Split(), Split()]
    assert isinstance(alone[0], PermanentFailure)
    assert alone[0].reason == "row"
    assert str(value) not in alone[0].detail
    assert after == [Delivered()]
    assert rows(dsn, f"SELECT delivery_id FROM {table}") == [("m-1",)]


TRIGGER = """
CREATE FUNCTION {table}_check() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN IF NEW.a = 'bad' THEN {raises}; END IF; RETURN NEW; END $$;
CREATE TRIGGER t BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION {table}_check()
"""
REFUSING_TABLES: dict[str, tuple[str, dict[str, Any]]] = {
    "the row is larger than its index takes": (
        "CREATE INDEX ON {table} (a)",
        {"a": "".join(chr(33 + n * n * 7919 % 9000) for n in range(9000))},
    ),
    "a trigger raises": (TRIGGER.replace("{raises}", "RAISE EXCEPTION 'no'"), {"a": "bad"}),
    "a trigger raises its own code": (
        TRIGGER.replace("{raises}", "RAISE EXCEPTION 'no' USING ERRCODE = 'TN001'"),
        {"a": "bad"},
    ),
    "a trigger divides by zero": (TRIGGER.replace("{raises}", "PERFORM 1 / 0"), {"a": "bad"}),
    "a trigger asserts": (TRIGGER.replace("{raises}", "ASSERT false"), {"a": "bad"}),
    "a column is generated": (
        "ALTER TABLE {table} ADD COLUMN g text GENERATED ALWAYS AS (upper(a)) STORED",
        {"a": "x", "g": "y"},
    ),
    "a constraint": ("ALTER TABLE {table} ADD CHECK (a <> 'bad')", {"a": "bad"}),
    "another unique column": ("ALTER TABLE {table} ADD COLUMN u int UNIQUE DEFAULT 1", {"a": "x", "u": 7}),
}


@pytest.mark.parametrize("kind", REFUSING_TABLES)
def test_row_that_the_database_refuses(dsn: str, table: str, kind: str) -> None:
    """A row that will never be taken is dead alone, unquoted, and leaves the rest of its batch to be written."""
    statement, payload = REFUSING_TABLES[kind]
    do(dsn, f"CREATE TABLE {table} (delivery_id text UNIQUE, a text)", statement.replace("{table}", table))
    if kind == "another unique column":
        do(dsn, f"INSERT INTO {table} VALUES ('m-0', 'x', 7)")
    batch, alone, after = write(
        settings(dsn, table), [item(1, a="good"), item(2, **payload)], [item(2, **payload)], [item(1, a="good")]
    )
    assert batch == [Split(), Split()]
    assert isinstance(alone[0], PermanentFailure)
    assert alone[0].reason == "row"
    assert payload["a"] not in alone[0].detail
    assert after == [Delivered()]


@pytest.mark.parametrize(
    "setting",
    ["statement_timeout=1000", "default_transaction_read_only=on"],
)
def test_trouble_of_the_server_is_no_rows(dsn: str, table: str, setting: str) -> None:
    """Time-outs, a read-only server and the like wait: no row is dead of them."""
    do(dsn, f"CREATE TABLE {table} (delivery_id text UNIQUE, a text)")
    slow = "ALTER TABLE {table} ALTER a SET DEFAULT pg_sleep(5)::text"
    if setting.startswith("statement"):
        do(dsn, slow.replace("{table}", table))
    address = f"{dsn} options='-c {setting}'"
    (results,) = write(settings(address, table), [item(1)])
    assert results == [Retry()]


def test_columns_of_any_type(dsn: str, table: str) -> None:
    """An existing table may have any column types that accept JSON's texts, and defaults for missing values."""
    do(dsn, f"CREATE TABLE {table} (delivery_id text UNIQUE, at timestamptz, day date, kind text DEFAULT 'x')")
    assert write(settings(dsn, table), [item(1, at="2026-01-02T03:04:05.678Z", day="2026-01-02")]) == [[Delivered()]]
    assert rows(dsn, f"SELECT at = '2026-01-02 03:04:05.678+00', day::text, kind FROM {table}") == [
        (True, "2026-01-02", "x")
    ]


def test_missing_table_waits(dsn: str, table: str) -> None:
    """Without a table nothing is lost: writes are retried."""
    assert write(settings(dsn, table), [item(1, a=1)]) == [[Retry()]]


def test_no_unique_id_waits(dsn: str, table: str) -> None:
    """A table whose delivery_id is not unique would take repeats twice: nothing is written."""
    do(dsn, f"CREATE TABLE {table} (delivery_id text, a int)")
    assert write(settings(dsn, table), [item(1, a=1)]) == [[Retry()]]


def test_no_right(dsn: str, table: str) -> None:
    """A user that may not write, or is not known, is a matter of credentials."""
    role = f"r{uuid4().hex[:8]}"
    do(dsn, f"CREATE TABLE {table} (delivery_id text UNIQUE, a int); CREATE ROLE {role} LOGIN")
    do(dsn, f"GRANT SELECT ON {table} TO {role}")
    address = dsn.replace("user=turnout", f"user={role}")
    assert write(settings(address, table), [item(1, a=1)]) == [[AuthFailed()]]
    assert write(settings(dsn.replace("user=turnout", "user=nobody"), table), [item(1, a=1)]) == [[AuthFailed()]]


def test_nobody_there(tmp_path: Path, table: str) -> None:
    """A server that does not answer costs no delivery."""
    assert write(settings(f"host={tmp_path} user=turnout dbname=postgres", table), [item(1, a=1)]) == [[Retry()]]


def test_lost_connection(dsn: str, table: str) -> None:
    """A connection that the server ends is one failed attempt; the next has a new one."""

    async def run() -> list[Sequence[Result]]:
        forwarder = Postgres(settings(dsn, table, create=True))
        await forwarder.open()
        results = [await forwarder.write([item(1, a=1)], PLACE)]
        end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'turnout'"
        await asyncio.to_thread(rows, dsn, end)
        results += [await forwarder.write([item(2, a=2)], PLACE) for _ in range(2)]
        await forwarder.close()
        return results

    assert asyncio.run(run()) == [[Delivered()], [Retry()], [Delivered()]]
    assert rows(dsn, f"SELECT count(*) FROM {table}") == [(2,)]


def test_workers_widen_at_once(dsn: str, table: str) -> None:
    """Workers that meet new fields at the same time make one table of them."""

    async def run() -> None:
        workers = [Postgres(settings(dsn, table, create=True)) for _ in range(4)]
        make: Callable[[int, int], Delivery] = lambda worker, n: item(100 * worker + n, **{f"c{n}": n, f"w{worker}": 1})  # noqa: E731
        results = await asyncio.gather(
            *(worker.write([make(w, n)], PLACE) for w, worker in enumerate(workers) for n in range(5))
        )
        assert results == [[Delivered()]] * 20
        await asyncio.gather(*(worker.close() for worker in workers))

    asyncio.run(run())
    assert rows(dsn, f"SELECT count(*), count(c3), count(w2) FROM {table}") == [(20, 4, 5)]


def test_crash_of_the_server_under_load(dsn: str, table: str) -> None:
    """Four writers whose batches overlap, and a server that crashes in the middle: each delivery is one row."""
    batches = [[item(n, a=n) for n in range(first, first + 60)] for first in range(0, 5000, 50)]
    failures = 0

    async def bring(forwarder: Postgres, waiting: list[list[Delivery]], until: int) -> None:
        nonlocal failures
        while len(waiting) > until:
            batch = waiting.pop()
            while (results := await forwarder.write(batch, PLACE)) != [Delivered()] * len(batch):
                assert results == [Retry()] * len(batch)
                failures += 1

    async def run() -> None:
        forwarder = Postgres(settings(dsn, table, create=True))
        await forwarder.open()
        waiting = list(batches)
        await asyncio.gather(*(bring(forwarder, waiting, 60) for _ in range(4)))
        crash = asyncio.create_task(asyncio.to_thread(real_postgres.crash_and_start, dsn))
        await asyncio.gather(crash, *(bring(forwarder, waiting, 0) for _ in range(4)))
        await forwarder.close()

    asyncio.run(run())
    assert failures
    assert rows(dsn, f"SELECT count(*), count(DISTINCT a), max(a) FROM {table}") == [(5010, 5010, 5009)]


@pytest.mark.anyio
@pytest.mark.kafka
async def test_rows_that_are_never_taken_do_not_stop_the_partition(dsn: str, table: str, bench: Bench) -> None:
    """Through delivery, rows that a trigger refuses are dead, more of them than workers; all others are written."""
    do(dsn, f"CREATE TABLE {table} (delivery_id text UNIQUE, n int, a text)")
    do(dsn, TRIGGER.replace("{table}", table).replace("{raises}", "RAISE EXCEPTION 'no'"))
    bad = set(range(5, 100, 10))
    await bench.forward(*({"n": n, "a": "bad" if n in bad else "good"} for n in range(100)))
    async with bench.running(Postgres(settings(dsn, table)), items=50):
        outcomes = await bench.settled(100)
    assert {n for n, outcome in outcomes.items() if outcome == "dead"} == bad
    assert rows(dsn, f"SELECT count(*) FROM {table}") == [(90,)]


@pytest.mark.anyio
@pytest.mark.kafka
async def test_one_bad_row_is_one_dead_letter(dsn: str, table: str, bench: Bench) -> None:
    """Through delivery, a row that its column does not take is dead, and all that came with it go in."""
    do(dsn, f"CREATE TABLE {table} (delivery_id text UNIQUE, n int, note int)")
    await bench.forward(*({"n": n, "note": "many" if n == 137 else n} for n in range(200)))
    async with bench.running(Postgres(settings(dsn, table))):
        outcomes = await bench.settled(200)
    assert {n for n, outcome in outcomes.items() if outcome == "dead"} == {137}
    assert [(letter.reason, letter.delivery["id"]) for letter in await bench.dead()] == [("row", "m137")]
    assert rows(dsn, f"SELECT count(*), count(DISTINCT n) FROM {table} WHERE n <> 137") == [(199, 199)]
