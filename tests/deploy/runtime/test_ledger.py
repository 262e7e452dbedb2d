"""`turnout ledger` as a process on a real Kafka."""

import asyncio
import signal
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest
import requests

from deploy.cli.options import load
from deploy.runtime.ledger import opened_store
from deploy.terminal.failures import Misconfigured
from streams.kafka.admin import create_topics
from streams.kafka.settings import Broker
from streams.ledger import clickhouse_store
from streams.ledger.sqlite_store import SqliteStore
from streams.ledger.store import LedgerBatch
from streams.operations.reading import OperationsReader
from streams.topics import Topics
from tests.faults.harness import Process
from tests.support.clickhouse import database_for, kept
from tests.support.ports import free_port, free_row
from tests.support.reading import until
from tests.support.real_kafka import Kafka

pytestmark = pytest.mark.anyio

TURNOUT = """
prefix: {prefix}
broker: {{bootstrap: '{bootstrap}'}}
partitions: 2
replication: 1
ledger: {{port: {port}, token: '${{FAULTS_WRITE_KEY}}'}}
"""


async def test_a_ledger_process_starts_serves_and_stops(kafka: Kafka, broker: Broker, tmp_path: Path):
    """It becomes ready, wants its token, and audits; a second one exits with 2; SIGTERM ends it with 0."""
    topics, port = Topics(f"t{uuid4().hex[:8]}", 2), free_port()
    create_topics(broker, topics.declared([]), replication=1, timeout=60)
    text = TURNOUT.format(prefix=topics.prefix, bootstrap=kafka.bootstrap, port=port)
    metrics = free_row(4) + 3
    (tmp_path / "turnout.yaml").write_text(f"{text}metrics_port: {metrics - 3}\nmetrics_host: 127.0.0.1\n")
    ledger = await Process(tmp_path, "ledger").ready()
    try:

        def status(path: str) -> int:
            return requests.get(f"http://127.0.0.1:{port}{path}", timeout=60).status_code

        def scrape() -> str:
            return requests.get(f"http://127.0.0.1:{metrics}/metrics", timeout=60).text

        await until(lambda: status("/ready") == 200)
        assert (status("/health"), status("/counts")) == (200, 401)
        own = f"http://127.0.0.1:{metrics}"
        for path in ("/health", "/ready"):
            assert (await asyncio.to_thread(requests.get, f"{own}{path}", timeout=60)).status_code == 200
        await until(lambda: f'turnout_lag_seconds{{group="{topics.prefix}.ledger"' in scrape())
        with OperationsReader(broker, topics) as reader:
            await until(lambda: any(row.kind == "ledger" for row in reader.look([]).alive.values()))
            (report,) = reader.look([]).alive.values()
        assert [pipeline.name for pipeline in report.pipelines] == ["ledger"]
        await until(lambda: 'turnout_ledger_problem_events{problem="no_outcome"} 0.0' in scrape())
        second = Process(tmp_path, "ledger")
        await until(lambda: not second.runs)
        assert await second.end(signal.SIGTERM) == 2
        assert "turnout.yaml: ledger.folder: " in second.log.read_text()
        assert "is in use by another ledger process" in second.log.read_text()
        assert await ledger.end(signal.SIGTERM) == 0
    finally:
        ledger.signal(signal.SIGKILL)


async def test_a_ledger_that_cannot_go_on_ends(kafka: Kafka, broker: Broker, tmp_path: Path):
    """A folder that has read more than the topic holds ends the process with 1, and the log says how to rebuild it."""
    topics, port = Topics(f"t{uuid4().hex[:8]}", 2), free_port()
    create_topics(broker, topics.declared([]), replication=1, timeout=60)
    (tmp_path / "turnout.yaml").write_text(TURNOUT.format(prefix=topics.prefix, bootstrap=kafka.bootstrap, port=port))
    with closing(SqliteStore(tmp_path / "ledger", None, 7)) as store:
        store.write(LedgerBatch(offsets={(topics.outcomes, 0): 5}))
    ledger = Process(tmp_path, "ledger")
    await until(lambda: not ledger.runs)
    assert await ledger.end(signal.SIGTERM) == 1
    assert "Delete the ledger's folder to rebuild it from Kafka" in ledger.log.read_text()


@pytest.mark.clickhouse
def test_a_second_ledger_on_a_database_is_an_error_of_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """It ends with 2 before it has changed anything, and the line names the setting and what to do."""
    address = database_for(tmp_path)
    monkeypatch.setattr(clickhouse_store, "LEASE_SECONDS", 120.0)
    monkeypatch.setattr(clickhouse_store, "BEAT_SECONDS", 0.0)
    monkeypatch.setenv("FAULTS_WRITE_KEY", "k" * 32)
    monkeypatch.setenv("CLICKHOUSE_PASSWORD", address.password.get_secret_value())
    clickhouse = f"{{url: '{address.url}', user: {address.user}, password: '${{CLICKHOUSE_PASSWORD}}'}}"
    (tmp_path / "turnout.yaml").write_text(f"ledger: {{store: clickhouse, clickhouse: {clickhouse}}}\n")
    configuration = load(tmp_path)
    with (
        opened_store(configuration) as one,
        kept(one),
        pytest.raises(Misconfigured) as caught,
        opened_store(configuration),
    ):
        pass
    assert caught.value.exit_code == 2
    (error,) = caught.value.errors
    assert error.message == "ledger.clickhouse.url: another ledger process writes to this database of ClickHouse"
    assert "give this one another database" in str(error)
