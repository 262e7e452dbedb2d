"""The process `turnout ledger`: reads from Kafka, audits every hour, and serves the API."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from time import monotonic
from typing import Any

import structlog
from faust.types import TP

from deploy.config.configuration import Configuration
from deploy.runtime.exposition import Readiness
from deploy.runtime.logs import log_ready, log_stopped
from deploy.runtime.reload import Reloader
from deploy.terminal.failures import Failed, Misconfigured
from streams.clock import time
from streams.kafka.settings import BrokerError
from streams.ledger.api import LedgerApi
from streams.ledger.audit import AuditReport, BehindError, Problem
from streams.ledger.ingester import Ingester
from streams.ledger.intake import RecordIntake
from streams.ledger.kafka_audit import KafkaAuditor, RecordedIntegrations, audit_with_kafka, current_bounds
from streams.ledger.sampler import EventSampler
from streams.ledger.store import Reader, Store, StoreError, StoreInUseError
from streams.ledger.stores import open_reader, open_store
from streams.ledger.undelivered import PartitionDeliveries, find_deliveries
from streams.observability import metrics
from streams.operations.description import by_topic, with_lag
from streams.operations.reporter import Reporter
from streams.records.format import NewerFormatError
from streams.records.status import PipelineStatus
from streams.topics import Topics
from streams.worker.http_server import HttpServer, server_config
from streams.worker.lag import LagMeter
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
def opened_store(configuration: Configuration) -> Iterator[Store]:
    """Open the store of a configuration; raises Misconfigured if another process uses it, and Failed."""
    settings = configuration.settings
    folder = configuration.folder / settings.ledger.folder
    days = settings.ledger.retention_days or settings.retention_days
    try:
        store = open_store(settings.ledger, folder, days)
    except StoreInUseError as error:
        raise _in_use(configuration, error) from error
    except (StoreError, OSError) as error:
        raise Failed(f"cannot open the ledger: {error}") from error
    with closing(store):
        yield store


def run(
    configuration: Configuration,
    store: Store,
    listener: socket.socket,
    read: Callable[[], Configuration],
    facts: Mapping[str, Any],
    readiness: Readiness,
) -> int:
    """Run the ledger until SIGTERM or SIGINT; returns the exit code. Raises Failed if it cannot continue."""
    return asyncio.run(_Process(configuration, store, read).run(listener, facts, readiness))


def _in_use(configuration: Configuration, error: StoreInUseError) -> Misconfigured:
    setting, other = "ledger.folder", "folder"
    if configuration.settings.ledger.store == "clickhouse":
        setting, other = "ledger.clickhouse.url", "database"
    hint = f"stop the other process, or give this one another {other}"
    return Misconfigured([RuleError(f"{setting}: {error}", hint, path=str(configuration.folder / "turnout.yaml"))])


class LedgerReading:
    """The topics that the ledger reads, as a pipeline whose lag is measured."""

    name = "ledger"

    def __init__(self, topics: Topics, open_reader: Callable[[], Reader]) -> None:
        self.group = f"{topics.prefix}.ledger"
        self._parts = [
            TP(topic, number) for topic in RecordIntake(topics).topics for number in range(topics.partitions)
        ]
        self._open_reader = open_reader

    @property
    def done(self) -> Mapping[TP, int]:
        """Return the next offset to read of each partition."""
        with suppress(StoreError), closing(self._open_reader()) as reader:
            offsets = reader.offsets()
            return {part: offsets.get((part.topic, part.partition), 0) for part in self._parts}
        return {}


class _Process:
    def __init__(self, configuration: Configuration, store: Store, read: Callable[[], Configuration]) -> None:
        self._settings, self._store = configuration.settings, store
        self._folder = configuration.folder / self._settings.ledger.folder
        self._reloader = Reloader(configuration, read)
        self._recorded = RecordedIntegrations(self._settings.broker, self._settings.topics.rulesets)
        self._auditing = asyncio.Lock()
        self._stopping = asyncio.Event()
        self._ingester = self._new_ingester()
        self._reading = LedgerReading(self._settings.topics, self._open_reader)

    async def run(self, listener: socket.socket, facts: Mapping[str, Any], readiness: Readiness) -> int:
        token = self._settings.ledger.token
        days = self._settings.ledger.retention_days or self._settings.retention_days
        app = LedgerApi(
            self._open_reader,
            self._audit,
            lambda: not self._find_obstacle(),
            token.get_secret_value() if token else None,
            lambda: time() - days * DAY,
            self._find_deliveries,
        )
        host, port = listener.getsockname()[:2]
        meter = LagMeter(self._settings.broker, lambda: [self._reading])

        def ready() -> None:
            readiness.started(self._find_obstacle)
            log_ready("ledger", host=host, port=port, **facts)

        server = HttpServer(server_config(app, timeout_graceful_shutdown=STOP_SECONDS), ready)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        serving = asyncio.create_task(server.serve([listener]))
        ingesting = asyncio.create_task(self._ingest())
        auditing = asyncio.create_task(self._audit_on())
        measuring = asyncio.create_task(meter.run())
        stopped = asyncio.create_task(self._stopping.wait())
        reporter = self._make_reporter(meter)
        try:
            async with self._reloader.running(), reporter.running() as report:
                report()
                await asyncio.wait([stopped, ingesting, serving], return_when=asyncio.FIRST_COMPLETED)
                reporter.is_clean = stopped.done()
            self._stopping.set()
            self._ingester.stop()
            server.should_exit = True
            await serving
            await ingesting
            log_stopped("ledger", 0)
        finally:
            tasks = (auditing, measuring, stopped, ingesting, serving)
            for task in tasks:
                task.cancel()
            # Not gather: Kafka's clients may ignore a cancellation, and the process must end.
            await asyncio.wait(tasks, timeout=STOP_SECONDS)
        return 0

    def _find_obstacle(self) -> str | None:
        return None if monotonic() - self._ingester.committed_at < READY_SECONDS else "it does not read from Kafka"

    def _make_reporter(self, meter: LagMeter) -> Reporter:
        def describe() -> list[PipelineStatus]:
            status = PipelineStatus(self._reading.name, partitions=by_topic(meter.parts))
            return [with_lag(status, meter.lag_of(self._reading.name))]

        settings = self._settings
        return Reporter(
            "ledger", settings.broker, settings.topics.status, lambda: self._reloader.current.version, describe
        )

    def _new_ingester(self) -> Ingester:
        settings, current = self._settings, self._reloader.current
        sources: dict[str, str | None] = {settings.topics.events: None}
        for topic in current.sources.topics:
            owner = current.sources.by_topic(topic)
            sources[topic] = owner.name if owner else None
        per_second = settings.ledger.sample_per_second
        sampler = EventSampler(settings.broker, sources, per_second) if per_second else None
        return Ingester(settings.broker, settings.topics, self._store, sampler)

    def _open_reader(self) -> Reader:
        return open_reader(self._settings.ledger, self._folder)

    async def _ingest(self) -> None:
        """Read until the process stops; retries while Kafka does not respond."""
        while not self._stopping.is_set():
            try:
                await self._ingester.run()
            except BrokerError as error:
                log.error("cannot read from Kafka; trying again", reason=str(error))  # noqa: TRY400
                await self._sleep(INGEST_RETRY_SECONDS)
                self._ingester = self._new_ingester()
            except StoreInUseError as error:
                raise _in_use(self._reloader.current, error) from error
            except (StoreError, NewerFormatError) as error:
                raise Failed(f"the ledger cannot continue: {error}") from error

    async def _audit(self, since_ms: int, until_ms: int | None) -> AuditReport:
        async with self._auditing:
            current, settings = self._reloader.current, self._settings
            kafka = KafkaAuditor(settings.broker, settings.topics, current.integrations, current.sources.topics)
            with closing(self._open_reader()) as reader:
                async with kafka as auditor:
                    return await audit_with_kafka(reader, auditor, since_ms, until_ms, recorded=self._recorded)

    async def _find_deliveries(
        self, integration: str, since_ms: int, until_ms: int | None
    ) -> Sequence[PartitionDeliveries]:
        current, settings = self._reloader.current, self._settings
        kafka = KafkaAuditor(settings.broker, settings.topics, [integration], current.sources.topics)
        with closing(self._open_reader()) as reader:
            async with kafka as auditor:
                bounds = await current_bounds(reader, auditor, since_ms, until_ms)
            return await asyncio.to_thread(find_deliveries, reader, bounds, integration)

    async def _audit_on(self) -> None:
        """Audit every hour, and export the result as metrics."""
        while True:
            try:
                report = await self._audit(int((time() - AUDITED_SECONDS) * 1000), None)
            except BehindError as error:
                log.warning("audit postponed", reason=str(error))
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
