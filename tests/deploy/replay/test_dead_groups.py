"""`turnout dead groups`, and listing, dropping and replaying one group."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from streams.ledger.api import LedgerApi
from streams.ledger.audit import AuditReport
from streams.ledger.intake import RecordIntake
from streams.ledger.sqlite_store import SqliteReader, SqliteStore
from streams.ledger.undelivered import PartitionDeliveries
from tests.deploy.replay.stage import Stage
from tests.support.ports import free_port
from tests.support.reading import read, until


def ingest(stage: Stage, folder: Path) -> None:
    """Write the records of the dead topic to a ledger."""
    store = SqliteStore(folder, None, 7)
    intake = RecordIntake(stage.topics)
    for record in asyncio.run(read(stage.broker, stage.topics.dead)):
        intake.take(record)
    store.write(intake.finish())
    store.close()


@contextmanager
def serving(folder: Path, port: int) -> Iterator[None]:
    """Serve the API of a ledger's folder."""

    async def audit(_since: int, _until: int | None) -> AuditReport:
        return AuditReport()

    async def find_deliveries(_integration: str, _since: int, _until: int | None) -> list[PartitionDeliveries]:
        return []

    app = LedgerApi(lambda: SqliteReader(folder, None), audit, lambda: True, None, lambda: 0, find_deliveries)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        asyncio.run(until(lambda: server.started))
        yield
    finally:
        server.should_exit = True
        thread.join()


def test_a_group_is_listed_dropped_and_replayed(stage: Stage, tmp_path: Path):
    """One screen says which rule to fix and where; its id selects exactly its dead letters."""
    port = free_port()
    path = stage.folder / "turnout.yaml"
    path.write_text(f"{path.read_text()}ledger: {{port: {port}}}\n")
    for n in range(5):
        stage.die(n, rule="bought", detail="total: 5 is too large" if n % 2 else f"customer \x1b[31m{n} is unknown")
    stage.run("dead", "groups", code=1)
    ingest(stage, tmp_path / "ledger")
    with serving(tmp_path / "ledger", port):
        lines = stage.run("dead", "groups").splitlines()
        assert lines[0] == "5 dead letters in 2 groups"
        assert max(map(len, lines)) <= 80
        assert "\x1b" not in "".join(lines)
        answer = json.loads(stage.run("dead", "groups", "--json"))
        unknown, large = answer["groups"]
        file = "integrations/one.yaml"
        assert (large["message"], large["open"], large["line"]) == ("total: … is too large", 2, f"{file}:6:59")
        assert (unknown["message"], unknown["open"], unknown["line"]) == ("customer … is unknown", 3, f"{file}:6:5")
        assert f"      3  one, rule bought{unknown['id']:>55}" in lines
        assert json.loads(stage.run("dead", "groups", "--integration", "two", "--json"))["groups"] == []

        listed = stage.listed("dead", "--group", large["id"])
        assert {letter["detail"] for letter in listed} == {"total: 5 is too large"}
        assert json.loads(stage.run("dead", "replay", "--group", large["id"], "--yes", "--json")) == {"replayed": 2}
        assert json.loads(stage.run("dead", "drop", "--group", unknown["id"], "--yes", "--json")) == {"dropped": 3}
        stage.run("dead", "list", "--group", "total", code=2)
        ingest(stage, tmp_path / "ledger")
        assert stage.run("dead", "groups") == "none\n"
        everything = json.loads(stage.run("dead", "groups", "--all", "--json"))["groups"]
        assert sorted(group["total"] for group in everything) == [2, 3]
