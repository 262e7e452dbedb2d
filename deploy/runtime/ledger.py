"""The process `turnout ledger`: reads from Kafka, audits every hour, and serves the API."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from time import monotonic, time
from typing import Any

import structlog
import uvicorn

from deploy.config.configuration import Configuration
from deploy.runtime.logs import log_ready
from deploy.runtime.reload import Reloader
from deploy.terminal.failures import Failed, Misconfigured
from streams.kafka.settings import BrokerError
from streams.ledger.api import LedgerApi
from streams.ledger.audit import AuditReport, BehindError, Problem
from streams.ledger.ingester import Ingester
from streams.ledger.kafka_audit import KafkaAuditor, RecordedIntegrations, audit_with_kafka
from streams.ledger.sqlite_store import SqliteReader, SqliteStore
from streams.ledger.store import FolderInUseError, StoreError
from streams.observability import metrics
from streams.records.format import NewerFormatError
from streams.worker.http_server import HttpServer
from transforms import RuleError

log = structlog.get_logger()

AUDIT_SECONDS = 3600.0
AUDITED_SECONDS = 2 * AUDIT_SECONDS
"""The time that an audit covers: two periods, so that an event in flight is looked at again."""

AUDIT_RETRY_SECONDS = 60.0
INGEST_RETRY_SECONDS = 2.0
READY_SECONDS = 30.0
"""Seconds without a commit after which the ledger is not ready; it commits every second."""

DAY = 24 * 3600
STOP_SECONDS = 3


@contextmanager
def opened_store(configuration: Configuration) -> Iterator[SqliteStore]:
    """Open the store of a configuration; raises Misconfigured if another process uses it, and Failed."""
    settings = configuration.settings
    folder = configuration.folder / settings.ledger.folder
    days = settings.ledger.retention_days or settings.retention_days
    try:
        store = SqliteStore(folder, settings.ledger.key, days)
    except FolderInUseError as error:
        message, hint = f"ledger.folder: {error}", "stop the other process, or give this one another folder"
        raise Misconfigured([RuleError(message, hint, path=str(configuration.folder / "turnout.yaml"))]) from error
    except (StoreError, OSError) as error:
        raise Failed(f"cannot open the ledger: {error}") from error
    with closing(store):
        yield store


def run(
    configuration: Configuration,
    store: SqliteStore,
    listener: socket.socket,
    read: Callable[[], Configuration],
    facts: Mapping[str, Any],
) -> int:
    """Run the ledger until SIGTERM or SIGINT; returns the exit code. Raises Failed if it cannot go on."""
    return asyncio.run(_Process(configuration, store, read).run(listener, facts))


class _Process:
    def __init__(self, configuration: Configuration, store: SqliteStore, read: Callable[[], Configuration]) -> None:
        self._settings, self._store = configuration.settings, store
        self._folder = configuration.folder / self._settings.ledger.folder
        self._reloader = Reloader(configuration, read)
        self._recorded = RecordedIntegrations(self._settings.broker, self._settings.topics.rulesets)
        self._auditing = asyncio.Lock()
        self._stopping = asyncio.Event()
        self._ingester = self._new_ingester()

    async def run(self, listener: socket.socket, facts: Mapping[str, Any]) -> int:
        token = self._settings.ledger.token
        days = self._settings.ledger.retention_days or self._settings.retention_days
        app = LedgerApi(
            self._open_reader,
            self._audit,
            lambda: monotonic() - self._ingester.committed_at < READY_SECONDS,
            token.get_secret_value() if token else None,
            lambda: time() - days * DAY,
        )
        host, port = listener.getsockname()[:2]
        server = HttpServer(_server_config(app), lambda: log_ready("ledger", host=host, port=port, **facts))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        serving = asyncio.create_task(server.serve([listener]))
        ingesting = asyncio.create_task(self._ingest())
        auditing = asyncio.create_task(self._audit_on())
        stopped = asyncio.create_task(self._stopping.wait())
        try:
            async with self._reloader.running():
                await asyncio.wait([stopped, ingesting, serving], return_when=asyncio.FIRST_COMPLETED)
            self._stopping.set()
            self._ingester.stop()
            server.should_exit = True
            await serving
            await ingesting
        finally:
            for task in (auditing, stopped, ingesting, serving):
                task.cancel()
            await asyncio.gather(auditing, stopped, ingesting, serving, return_exceptions=True)
        return 0

    def _new_ingester(self) -> Ingester:
        return Ingester(self._settings.broker, self._settings.topics, self._store)

    def _open_reader(self) -> SqliteReader:
        return SqliteReader(self._folder, self._settings.ledger.key)

    async def _ingest(self) -> None:
        """Read until the process stops; while Kafka does not answer, try again."""
        while not self._stopping.is_set():
            try:
                await self._ingester.run()
            except BrokerError as error:
                log.error("cannot read from Kafka; trying again", reason=str(error))  # noqa: TRY400
                await self._sleep(INGEST_RETRY_SECONDS)
                self._ingester = self._new_ingester()
            except (StoreError, NewerFormatError) as error:
                raise Failed(f"the ledger cannot go on: {error}") from error

    async def _audit(self, since_ms: int, until_ms: int | None) -> AuditReport:
        async with self._auditing:
            current, settings = self._reloader.current, self._settings
            kafka = KafkaAuditor(settings.broker, settings.topics, current.integrations, current.sources.topics)
            with closing(self._open_reader()) as reader:
                async with kafka as auditor:
                    return await audit_with_kafka(reader, auditor, since_ms, until_ms, recorded=self._recorded)

    async def _audit_on(self) -> None:
        """Audit every hour, and keep the result as metrics."""
        while True:
            try:
                report = await self._audit(int((time() - AUDITED_SECONDS) * 1000), None)
            except BehindError as error:
                log.warning("the audit waits", reason=str(error))
            except (BrokerError, StoreError) as error:
                log.error("the audit failed", reason=str(error))  # noqa: TRY400
            else:
                _export(report)
                await asyncio.sleep(AUDIT_SECONDS)
                continue
            await asyncio.sleep(AUDIT_RETRY_SECONDS)

    async def _sleep(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)


def _export(report: AuditReport) -> None:
    for problem in Problem:
        metrics.LEDGER_PROBLEMS.labels(problem.replace(" ", "_")).set(report.problems[problem])
    metrics.LEDGER_IN_FLIGHT.set(report.in_flight)
    metrics.LEDGER_AUDITED.set(time())
    if not report.balanced:
        log.error("the books do not balance", **{name.replace(" ", "_"): n for name, n in report.problems.items()})


def _server_config(app: LedgerApi) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
