"""One Faust app of a worker: it reads topics and passes each fetched batch of records to a processor."""

import asyncio
import logging
import tempfile
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import faust
import structlog
from aiokafka import AIOKafkaConsumer
from faust.types import TP

from streams.kafka.gaps import Gap, OnGap
from streams.kafka.offsets import Commits, MemoryBudget, OffsetTracker, RecordBatch
from streams.kafka.settings import Broker
from streams.kafka.transport import Consumer, Transport
from streams.observability.internal_error import describe, to_exception
from streams.observability.logging import error_fields
from streams.observability.metrics import RECORDS_LOST
from streams.records.control import Control
from streams.records.format import MAX_RECORD_BYTES, NewerFormatError
from streams.records.status import VendorStatus
from streams.worker.guard import BrokenWorkerError
from streams.worker.lag import find_lag, offsets_done

log = structlog.get_logger()

# Faust and aiokafka build debug records in their send path even if nobody reads them, at 13 to 37 % of the speed.
logging.disable(logging.DEBUG)


METADATA_SECONDS = 10
"""Seconds after which a consumer looks at its topics again.

A node that has just started may not list a topic yet. If partitions are assigned at that moment, nobody gets those of
the topic until the next look, which aiokafka would take after 300 seconds.
"""


class StartError(Exception):
    """A pipeline cannot start; this machine lacks a folder, a library or a connection."""


class VendorSwitch(Protocol):
    """Shows and changes whether a pipeline sends to its vendor."""

    @property
    def status(self) -> VendorStatus:
        """Return whether deliveries are sent, and the vendor's last response to a failed request."""

    def hold(self, order: Control | None) -> None:
        """Pause delivery by an operator's command; None ends the pause."""

    def probe(self) -> None:
        """If the vendor fails, try again now."""


async def _do_nothing() -> None:
    return


async def _record_nothing(_gap: Gap) -> None:
    return


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Processor:
    """The functions that a pipeline calls.

    Attributes:
        work: Process a batch. It records an outcome for each invalid record. If it raises, nothing of the batch is
            committed, and the pipeline fails.
        start: Open connections or files; called before the first batch.
        stop: Close them; called after the last batch.
        waits: Return whether it waits for something bounded, so that no progress is not a stall.
        settle: Finish the batches in progress within a number of seconds, because the partitions are about to be
            revoked. By default the pipeline waits until they are finished.
        on_revoked: Called with the partitions that were revoked.
        commits: Which offsets may be committed; by default those of the finished batches.
        vendor: Shows and changes whether it sends to its vendor, if it has one.
        record_gap: Record the outcome of records that Kafka removed before they were read; returns once Kafka has
            stored it.

    """

    work: Callable[[RecordBatch], Awaitable[None]]
    start: Callable[[], Awaitable[None]] = _do_nothing
    stop: Callable[[], Awaitable[None]] = _do_nothing
    waits: Callable[[], bool] = _never
    settle: Callable[[float], Awaitable[object]] | None = None
    on_revoked: Callable[[Iterable[TP]], object] = lambda _: None
    commits: Commits | None = None
    vendor: VendorSwitch | None = None
    record_gap: Callable[[Gap], Awaitable[None]] = _record_nothing


class PipelineControl:
    """Lets a processor query and pause the pipeline that calls it."""

    def __init__(self, app: faust.App, progress: OffsetTracker, give_up: Callable[[Exception, str], None]) -> None:
        self._app, self._progress = app, progress
        self.give_up = give_up

    def count_assigned(self, topic: str) -> int:
        """Return how many partitions of a topic this process has."""
        return sum(tp.topic == topic for tp in self._consumer.assignment())

    @property
    def finished_to(self) -> Mapping[tuple[str, int], int]:
        """Return for each assigned partition the offset after the last record finished before the assignment."""
        return cast("Mapping[tuple[str, int], int]", self._consumer.finished_to)

    def give_back(self, batch: RecordBatch, index: int, seconds: float) -> None:
        """Fetch the records of the batch in progress from `index` on again, after a number of seconds."""
        self._consumer.give_back(batch, index, seconds)

    def is_full(self) -> bool:
        """Return whether the unfinished batches use all the memory they may."""
        return self._progress.held >= self._progress.budget

    async def wait_until_settled(self, seconds: float) -> bool:
        """Wait until no batch is in progress, at most `seconds`; return whether none is."""
        return await self._progress.wait_until_settled(seconds)

    @property
    def _consumer(self) -> Consumer:
        return cast("Consumer", self._app.consumer)


class ConsumerPipeline:
    """One Faust app of a worker, with its record batches and health.

    Args:
        name: The pipeline in logs and metrics: `router`, or an integration.
        app: The Faust app.
        broker: Where to ask for the lag.
        progress: The batches that are fetched.
        transport: The app's transport.
        processor: The functions that it calls.
        fail: Ends the process with a reason. Called for records that only a newer version can read, and for every
            failure of a pipeline that cannot be restarted alone.
        remake: Creates the pipeline again; without it the pipeline cannot be restarted alone.

    """

    def __init__(
        self,
        name: str,
        app: faust.App,
        broker: Broker,
        progress: OffsetTracker,
        transport: Transport,
        processor: Processor,
        *,
        fail: Callable[[str], None],
        remake: "Callable[[], ConsumerPipeline] | None" = None,
    ) -> None:
        self.name, self.app, self.progress, self.transport, self.remake = name, app, progress, transport, remake
        self._broker, self._processor = broker, processor
        self._end_process = self._on_failure = fail
        self.why = ""
        """Why it failed, or empty."""

    async def start(self, on_failure: Callable[[str], None] | None = None) -> None:
        """Start the processor and the app; `on_failure` is called if the pipeline fails. Raises StartError."""
        if on_failure is not None:
            self._on_failure = on_failure
        try:
            await self._processor.start()
        except (OSError, ImportError) as error:
            raise StartError(f"{self.name} cannot start: {error}") from error
        except BaseException as error:
            raise StartError(f"{self.name} cannot start: {describe(to_exception(error))}") from error
        await self.app.start()

    async def stop_processor(self) -> None:
        """Close what the processor opened; called once the app has stopped."""
        await self._processor.stop()

    def waits(self) -> bool:
        """Return whether its processor waits for something that ends by itself, such as a time-out."""
        return self._processor.waits()

    @property
    def vendor(self) -> VendorSwitch | None:
        """Return the switch of its vendor, if it delivers to one."""
        return self._processor.vendor

    def fail(self, why: str) -> None:
        """Report that the pipeline cannot continue. Unfinished records are not committed and will be redelivered."""
        self.why = why
        self._on_failure(why)

    def give_up(self, error: Exception, doing: str) -> None:
        """Fail because of an error that no single record caused."""
        log.error("pipeline failed", pipeline=self.name, doing=doing, **error_fields(error))
        if isinstance(error, NewerFormatError):
            self._end_process(f"{self.name}: {error}")
        elif isinstance(error, BrokenWorkerError):
            self.fail(f"{self.name}: {error}")
        else:
            self.fail(f"{self.name}: {describe(error)} while {doing}")

    async def pass_gap(self, gap: Gap, on_gap: OnGap) -> None:
        """Record records that retention removed before they were read; with `stop`, end the process before them."""
        if on_gap == "stop":
            self._end_process(gap.reason_to_stop(self.group))
            await self.transport.app.wait_until_stopped()
            return
        log.error(
            "records were removed before they were read: the topic's retention is shorter than the lag",
            topic=gap.topic, partition=gap.partition, first=gap.start, last=gap.end - 1, lost=gap.records,
        )  # fmt: skip
        await self._processor.record_gap(gap)
        RECORDS_LOST.labels(gap.topic).inc(gap.records)

    @property
    def group(self) -> str:
        """Return its consumer group."""
        return str(self.app.conf.id)

    @property
    def done(self) -> Mapping[TP, int]:
        """Return the offset of each of its partitions before which all records are finished."""
        reading = cast("Consumer", self.app.consumer)
        return offsets_done(reading, self.transport.commits, reading.assignment())

    @property
    def paused_partitions(self) -> Collection[TP]:
        """Return the partitions that are paused until their retries are due."""
        return cast("Consumer", self.app.consumer).paused

    async def lag(self) -> int:
        """Return how many records are not finished, without those of paused partitions.

        Records in an object that is not written yet count as finished. A separate consumer queries Kafka, because a
        consumer that silently stopped fetching considers itself at the end. Raises KafkaError if Kafka does not
        respond.
        """
        reading = cast("Consumer", self.app.consumer)
        parts = [part for part in reading.assignment() if part not in reading.paused]
        if not parts:
            return 0
        asked = AIOKafkaConsumer(**self._broker.consumer(), group_id=None)
        await asked.start()
        try:
            return sum((await find_lag(asked, offsets_done(reading, self.progress, parts))).values())
        finally:
            await asked.stop()


def make_pipeline(
    name: str,
    topics: Sequence[str],
    make_processor: Callable[[PipelineControl], Processor],
    broker: Broker,
    *,
    fail: Callable[[str], None],
    group: str,
    commit_interval: float,
    grace: float,
    remake: Callable[[], ConsumerPipeline] | None = None,
    poll_records: int = 500,
    budget: int = 16 * 1024 * 1024,
    memory: MemoryBudget | None = None,
    partition_fetch_bytes: int = 2 * MAX_RECORD_BYTES,
    on_gap: OnGap = "continue",
) -> ConsumerPipeline:
    """Create a Faust app that passes each fetched batch of these topics to a processor.

    Args:
        name: The pipeline in logs and metrics.
        topics: The topics to read.
        make_processor: Makes the processor; it may use the control from the pipeline's start on.
        broker: How to connect to Kafka.
        fail: As of ConsumerPipeline.
        group: The consumer group.
        commit_interval: Seconds between two commits.
        grace: Seconds that a stop may take.
        remake: As of ConsumerPipeline.
        poll_records: The maximum number of records in a batch.
        budget: Bytes of unfinished records from which on no more are fetched.
        memory: The budget of the process, of which the pipeline may use its share at most.
        partition_fetch_bytes: Bytes that are fetched ahead per partition; a larger record is fetched alone.
        on_gap: Whether to continue after records that retention removed before they were read.

    """
    app = faust.App(
        group,
        **broker.faust(),
        broker_client_id=group,
        broker_commit_interval=commit_interval,
        broker_max_poll_records=poll_records,
        # After its default of 1,000 s without a fetch aiokafka leaves the group, and Faust never joins it again.
        broker_max_poll_interval=1_000_000,
        consumer_max_fetch_size=partition_fetch_bytes,
        consumer_auto_offset_reset="earliest",
        consumer_metadata_max_age_ms=METADATA_SECONDS * 1000,
        datadir=tempfile.mkdtemp(prefix="turnout-"),
        store="memory://",
        stream_wait_empty=True,
        topic_allow_declare=False,
        topic_disable_leader=True,
        value_serializer="raw",
        web_enabled=False,
        worker_redirect_stdouts=False,
    )

    def give_up(error: Exception, doing: str) -> None:
        pipeline.give_up(error, doing)

    async def pass_gap(gap: Gap) -> None:
        await pipeline.pass_gap(gap, on_gap)

    progress = OffsetTracker(budget, memory)
    processor = make_processor(PipelineControl(app, progress, give_up))
    transport = Transport(
        app.conf.broker_consumer,
        app,
        progress=progress,
        grace=grace,
        settle=processor.settle,
        on_revoked=processor.on_revoked,
        commits=processor.commits,
        on_gap=pass_gap,
    )
    app.transport = transport
    pipeline = ConsumerPipeline(name, app, broker, progress, transport, processor, fail=fail, remake=remake)

    async def agent(batches: Any) -> None:
        async for batch in batches:
            if batch.begin():
                try:
                    await processor.work(batch)
                except BaseException as error:  # noqa: BLE001  # if raised, Faust would acknowledge the batch
                    pipeline.give_up(to_exception(error), f"working on {batch.tp[0]}:{batch.tp[1]}")
                    return
            # The queue behind a busy stream never yields by itself, and acknowledgements must be processed.
            await asyncio.sleep(0)

    source = app.topic(*topics, value_type=None, value_serializer="raw", acks=False)
    app.agent(source, name=name)(agent)
    return pipeline
