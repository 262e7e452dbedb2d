"""Report what this process does to the topic `status`."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from importlib.metadata import version
from time import monotonic
from uuid import uuid4

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from streams.clock import record_time, time
from streams.kafka.settings import Broker
from streams.observability.internal_error import to_exception
from streams.observability.logging import error_fields
from streams.operations.waiting import wait_for_topic
from streams.parsing.times import rfc3339
from streams.records.status import PipelineStatus, ProcessStatus

log = structlog.get_logger()

REPORT_SECONDS = 10.0
"""Seconds between two reports while nothing changes."""

LOOK_SECONDS = 1.0
"""Seconds between two looks for a change."""

SEND_SECONDS = 5.0
"""Seconds that Kafka has to take a report; the next one is as good."""

Describe = Callable[[], Sequence[PipelineStatus]]


class Reporter:
    """Reports a process until it is cancelled. A failure to report never stops the process.

    It has a producer of its own: if the process's producer fails, the process ends.
    """

    def __init__(
        self,
        kind: str,
        broker: Broker,
        topic: str,
        rules: Callable[[], str],
        describe: Describe = tuple,
    ) -> None:
        self._broker, self._topic, self._rules, self._describe = broker, topic, rules, describe
        host, now = socket.gethostname(), rfc3339(time())
        self._process = ProcessStatus(kind, host, os.getpid(), version("turnout"), "", now, now)
        # Containers that share a host name may also have the same process id.
        self.id = f"{kind}@{host}:{os.getpid()}:{uuid4().hex[:8]}"
        self._failed = False
        self.is_clean = False
        """Whether the report is removed at the end. A process that fails leaves its last report."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Callable[[], None]]:
        """Report until the end of the block. It yields a function that begins the reports."""
        tasks: list[asyncio.Task[None]] = []
        try:
            yield lambda: tasks.append(asyncio.create_task(self.run()))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def run(self) -> None:
        """Report every 10 s and on change; when cancelled, remove the report."""
        await wait_for_topic(self._broker, self._topic, "`turnout status` does not show this process")
        while True:
            producer = AIOKafkaProducer(
                **self._broker.client(),
                client_id=self.id,
                acks="all",
                enable_idempotence=False,
                request_timeout_ms=int(SEND_SECONDS * 1000),
            )
            try:
                await producer.start()
                await self._report_until_failure(producer)
            except BaseException as error:  # noqa: BLE001  # a report is never a reason to stop
                self._warn(to_exception(error))
            finally:
                with suppress(KafkaError, OSError, TimeoutError):
                    await asyncio.wait_for(producer.stop(), SEND_SECONDS)
            await asyncio.sleep(REPORT_SECONDS)

    async def _report_until_failure(self, producer: AIOKafkaProducer) -> None:
        sent_at, sent = float("-inf"), None
        try:
            while True:
                report = self.report()
                if monotonic() - sent_at >= REPORT_SECONDS or _essence(report) != sent:
                    await self._send(producer, report.encode())
                    sent_at, sent, self._failed = monotonic(), _essence(report), False
                await asyncio.sleep(LOOK_SECONDS)
        except asyncio.CancelledError:
            if self.is_clean:
                with suppress(KafkaError, OSError, TimeoutError):
                    await self._send(producer, None)
            raise

    def report(self) -> ProcessStatus:
        """Describe the process as it is now."""
        return replace(self._process, rules=self._rules(), reported=rfc3339(time()), pipelines=list(self._describe()))

    async def _send(self, producer: AIOKafkaProducer, value: bytes | None) -> None:
        sending = producer.send_and_wait(
            self._topic, value, key=self.id.encode(), partition=0, timestamp_ms=record_time()
        )
        await asyncio.wait_for(sending, SEND_SECONDS)

    def _warn(self, error: Exception) -> None:
        if not self._failed:
            log.warning("cannot report the status of this process; trying again", **error_fields(error))
        self._failed = True


def _essence(report: ProcessStatus) -> tuple[object, ...]:
    """Return the part of a report whose changes are reported immediately."""
    return report.rules, [
        (
            pipeline.name,
            pipeline.failing,
            pipeline.partitions,
            (pipeline.vendor.state, pipeline.vendor.since) if pipeline.vendor else None,
        )
        for pipeline in report.pipelines
    ]
