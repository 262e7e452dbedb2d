"""Run a worker process: a producer and any number of Faust apps."""

import asyncio
import logging
import shutil
import signal
import tempfile
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Any, Protocol, cast

import faust
import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from faust.types import TP

from streams.kafka.offsets import OffsetTracker, RecordBatch
from streams.kafka.producer import Producer
from streams.kafka.settings import Broker
from streams.kafka.transport import Consumer, Transport
from streams.observability.internal_error import describe
from streams.observability.logging import error_fields
from streams.observability.metrics import WORKER_FAILING
from streams.records.control import Control
from streams.records.format import MAX_RECORD_BYTES, NewerFormatError
from streams.records.status import VendorStatus
from streams.worker.gc_tuning import relax_gc
from streams.worker.guard import BrokenWorkerError
from streams.worker.lag import find_lag, offsets_done

log = structlog.get_logger()

STALLED_SECONDS = 180.0
"""Seconds without any progress, while there is lag and nobody declared a wait, after which a worker gives up."""

FIRST_PAUSE_SECONDS = 1.0
"""Seconds before a pipeline that failed is restarted; doubles each time."""

MAX_PAUSE_SECONDS = 300.0
"""The longest such pause in seconds."""

STEADY_SECONDS = 60.0
"""Seconds without another failure after which a restarted pipeline no longer counts as failing."""

HEALTH_TIMEOUT_SECONDS = 10.0
"""Seconds for a look at the lag; a Kafka that does not answer is no stall of ours."""

# Faust and aiokafka build debug records in their send path even when nobody reads them, at 13 to 37 % of the speed.
logging.disable(logging.DEBUG)


def _nobody_waits() -> bool:
    return False


class VendorSwitch(Protocol):
    """Shows and changes whether a pipeline sends to its vendor."""

    @property
    def status(self) -> VendorStatus:
        """Whether deliveries go out, and the vendor's last answer to a request that failed."""

    def hold(self, order: Control | None) -> None:
        """Send nothing by this order; None ends that."""

    def probe(self) -> None:
        """If the vendor fails, try again now."""


class StartError(Exception):
    """A pipeline lacks what it needs on this machine: a folder, a library."""


@dataclass
class ConsumerPipeline:
    """One Faust app of a worker, with its record batches and health.

    `end` ends the process: for a broker that fails, and for records that only a newer version can read. `failed` is
    called with every other reason why the pipeline cannot go on. `again` makes it anew; a pipeline without it cannot be
    restarted alone, and ends the process. `why` says why it failed. `vendor` is set if it delivers to one.
    """

    name: str
    app: faust.App
    broker: Broker
    progress: OffsetTracker
    transport: Transport
    end: Callable[[str], None]
    failed: Callable[[str], None]
    again: "Callable[[], ConsumerPipeline] | None" = None
    why: str = ""
    waits: Callable[[], bool] = _nobody_waits
    vendor: VendorSwitch | None = None
    started: Sequence[Callable[[], Awaitable[None]]] = field(default_factory=list)
    stopped: Sequence[Callable[[], Awaitable[None]]] = field(default_factory=list)

    def give_up(self, error: Exception, doing: str) -> None:
        """Report an error that is no single record's; what is not finished is not committed, and comes again."""
        log.error("cannot go on", pipeline=self.name, doing=doing, **error_fields(error))
        if isinstance(error, NewerFormatError):
            self.end(f"{self.name}: {error}")
        elif isinstance(error, BrokenWorkerError):
            self.failed(f"{self.name}: {error}")
        else:
            self.failed(f"{self.name}: {describe(error)} while {doing}")

    @property
    def done(self) -> Mapping[TP, int]:
        """The offset of each of its partitions up to which all may be committed."""
        reading = cast("Consumer", self.app.consumer)
        return offsets_done(reading, self.transport.commits, reading.assignment())

    @property
    def resting(self) -> Collection[TP]:
        """Its partitions that rest: their records are to be tried again later."""
        return cast("Consumer", self.app.consumer).resting

    async def lag(self) -> int:
        """Return how many records are not finished, without those of partitions that rest.

        Records that wait for their object to be written are finished. It asks by a consumer of its own, since one that
        silently stopped fetching believes to be at the end. Raises KafkaError if Kafka does not answer.
        """
        reading = cast("Consumer", self.app.consumer)
        parts = [part for part in reading.assignment() if part not in reading.resting]
        if not parts:
            return 0
        asked = AIOKafkaConsumer(**self.broker.consumer(), group_id=None)
        await asked.start()
        try:
            return sum((await find_lag(asked, offsets_done(reading, self.progress, parts))).values())
        finally:
            await asked.stop()


def make_pipeline(
    name: str,
    topic: str,
    work: Callable[[RecordBatch], Awaitable[None]],
    broker: Broker,
    *,
    fail: Callable[[str], None],
    group: str,
    commit_interval: float,
    grace: float,
    beside: Sequence[str] = (),
    poll_records: int = 500,
    budget: int = 16 * 1024 * 1024,
) -> ConsumerPipeline:
    """Create a Faust app that passes each batch of `topic` and of the topics `beside` it to `work`.

    `work` makes an outcome of everything that is wrong with a record. If it raises, nothing is committed: the pipeline
    is restarted alone, or `fail` ends the process.
    """
    app = faust.App(
        group,
        **broker.faust(),
        broker_client_id=group,
        broker_commit_interval=commit_interval,
        broker_max_poll_records=poll_records,
        # After its default of 1,000 s without a fetch aiokafka leaves the group, and Faust never joins it again.
        broker_max_poll_interval=1_000_000,
        consumer_max_fetch_size=2 * MAX_RECORD_BYTES,
        consumer_auto_offset_reset="earliest",
        datadir=tempfile.mkdtemp(prefix="turnout-"),
        store="memory://",
        stream_wait_empty=True,
        topic_allow_declare=False,
        topic_disable_leader=True,
        value_serializer="raw",
        web_enabled=False,
        worker_redirect_stdouts=False,
    )
    progress = OffsetTracker(budget)
    transport = Transport(app.conf.broker_consumer, app, progress=progress, grace=grace)
    app.transport = transport
    source = app.topic(topic, *beside, value_type=None, value_serializer="raw", acks=False)

    async def agent(runs: Any) -> None:
        async for run in runs:
            if run.begin():
                try:
                    await work(run)
                except Exception as error:  # noqa: BLE001  # if it left, Faust would acknowledge the run, and lose it
                    pipeline.give_up(error, f"working on {run.tp[0]}:{run.tp[1]}")
                    return
            # The queue behind a busy stream never yields by itself, and confirmations must be heard.
            await asyncio.sleep(0)

    app.agent(source, name=name)(agent)
    pipeline = ConsumerPipeline(name, app, broker, progress, transport, end=fail, failed=fail)
    return pipeline


@dataclass
class Restarts:
    """How often one pipeline was restarted without a steady time in between, and when it was the last time."""

    count: int = 0
    latest: float = field(default_factory=monotonic)

    def pause(self) -> float:
        """Return the seconds to wait before the next restart."""
        return min(MAX_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(self.count, 30))

    def are_over(self) -> bool:
        """Whether the pipeline has run steadily since."""
        return monotonic() - self.latest > STEADY_SECONDS


class Worker:
    """Runs pipelines until it is told to stop, or none of them can go on.

    A pipeline that fails (its app crashes, its work raises, it stalls) is restarted alone, after a pause that doubles
    up to LONGEST_PAUSE seconds; the others go on. If no pipeline is left that runs, the process ends with exit code 1.
    """

    def __init__(self, producer: Producer, *, stalled_after: float = STALLED_SECONDS) -> None:
        self.producer = producer
        self.pipelines: list[ConsumerPipeline] = []
        self._stalled_after = stalled_after
        self._over: asyncio.Future[str | None] | None = None
        self._crashes: dict[str, asyncio.Task[None]] = {}
        self._failing: dict[str, asyncio.Task[None]] = {}
        self._restarts: dict[str, Restarts] = {}
        self.failures: dict[str, str] = {}
        """Why each pipeline fails that is being restarted, or was and is not steady yet."""
        self.beside: list[Callable[[], Coroutine[Any, Any, None]]] = []
        """Tasks beside the pipelines, from before they start until they have stopped."""
        self.is_stuck = False
        """Whether an app did not heed its end; its tasks may keep the event loop from closing."""

    def fail(self, why: str) -> None:
        """End the process with exit code 1; what is not confirmed is not committed, and comes again."""
        if self._over is not None and not self._over.done():
            self._over.set_result(why)

    def stop(self) -> None:
        """End the process in order, with exit code 0."""
        if self._over is not None and not self._over.done():
            self._over.set_result(None)

    async def run(self, ready: Callable[[], None] = lambda: None) -> int:
        """Start all, wait, stop all; returns the exit code. SIGTERM and SIGINT stop."""
        relax_gc()
        loop = asyncio.get_running_loop()
        self._over = loop.create_future()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        watch: asyncio.Task[None] | None = None
        beside: list[asyncio.Task[None]] = []
        try:
            await self.producer.start()
            beside += [loop.create_task(make()) for make in self.beside]
            await self._start_all()
            watch = loop.create_task(self._watch())
            ready()
            why = await self._over
        finally:
            for task in (watch, *self._crashes.values()):
                if task:
                    task.cancel()
            await self._stop_all()
            for other in beside:
                other.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
        if why is not None:
            log.error("worker ends", reason=why)
        return 0 if why is None else 1

    async def _start_all(self) -> None:
        """Start all pipelines; those that cannot start are restarted later, unless none can. Raises StartError."""
        pipelines = list(self.pipelines)
        errors = await asyncio.gather(*map(self._start_pipeline, pipelines), return_exceptions=True)
        failed = [(pipeline, error) for pipeline, error in zip(pipelines, errors, strict=True) if error is not None]
        for pipeline, error in failed:
            if not isinstance(error, StartError) or pipeline.again is None or len(failed) == len(pipelines):
                raise error
        for pipeline, error in failed:
            self._fail_pipeline(pipeline, str(error))

    async def _start_pipeline(self, pipeline: ConsumerPipeline) -> None:
        if pipeline.again is not None:
            pipeline.failed = partial(self._fail_pipeline, pipeline)
        for step in pipeline.started:
            try:
                await step()
            except (OSError, ImportError) as error:
                raise StartError(f"{pipeline.name} cannot start: {error}") from error
            except Exception as error:
                raise StartError(f"{pipeline.name} cannot start: {describe(error)}") from error
        await pipeline.app.start()
        self._crashes[pipeline.name] = asyncio.get_running_loop().create_task(self._notice_crash(pipeline))

    def _fail_pipeline(self, pipeline: ConsumerPipeline, why: str) -> None:
        """Restart one pipeline; end the process if no other runs."""
        pipeline.why = why
        if pipeline not in self.pipelines:
            return  # it is only starting, or failed already
        self.pipelines.remove(pipeline)
        WORKER_FAILING.labels(pipeline.name).set(1)
        self.failures[pipeline.name] = why
        if not self.pipelines:
            self.pipelines.append(pipeline)
            self.fail(why)
            return
        self._failing[pipeline.name] = asyncio.get_running_loop().create_task(self._restart(pipeline))

    async def _restart(self, pipeline: ConsumerPipeline) -> None:
        """Stop a pipeline, and start it anew until it runs."""
        name, why = pipeline.name, pipeline.why
        if crash := self._crashes.pop(name, None):
            crash.cancel()
        await self._stop_pipeline(pipeline)
        assert pipeline.again
        while True:
            restarts = self._restarts.setdefault(name, Restarts())
            pause = restarts.pause()
            log.error("worker is failing; the others go on", worker=name, reason=why, restart_seconds=pause)
            await asyncio.sleep(pause)
            restarts.count, restarts.latest = restarts.count + 1, monotonic()
            made = pipeline.again()
            try:
                await self._start_pipeline(made)
                break
            except StartError as error:
                why = str(error)
            except Exception as error:  # noqa: BLE001  # it is tried again
                why = describe(error)
            except asyncio.CancelledError:
                await self._stop_pipeline(made)
                raise
            await self._stop_pipeline(made)
        del self._failing[name]
        log.info("worker was restarted", worker=name)
        self._run_with_others(made)

    def _run_with_others(self, pipeline: ConsumerPipeline) -> None:
        self.pipelines.append(pipeline)
        if pipeline.why:
            self._fail_pipeline(pipeline, pipeline.why)

    async def add(self, pipeline: ConsumerPipeline) -> None:
        """Start one more pipeline beside those that run."""
        await self._start_pipeline(pipeline)
        self._run_with_others(pipeline)

    async def remove(self, name: str) -> None:
        """Stop one pipeline in order, and forget it; the others are not held up."""
        if restart := self._failing.pop(name, None):
            restart.cancel()
            await asyncio.gather(restart, return_exceptions=True)
        self._restarts.pop(name, None)
        self.failures.pop(name, None)
        WORKER_FAILING.labels(name).set(0)
        for pipeline in [pipeline for pipeline in self.pipelines if pipeline.name == name]:
            self.pipelines.remove(pipeline)
            if crash := self._crashes.pop(name, None):
                crash.cancel()
            await self._stop_pipeline(pipeline)

    async def _stop_all(self) -> None:
        if self._failing:
            log.error("stopping while some workers are failing", workers=sorted(self._failing))
        for task in self._failing.values():
            task.cancel()
        await asyncio.gather(*self._failing.values(), return_exceptions=True)
        await asyncio.gather(*(self._stop_pipeline(pipeline) for pipeline in self.pipelines))
        await self.producer.stop()

    async def _stop_pipeline(self, pipeline: ConsumerPipeline) -> None:
        stopping = asyncio.get_running_loop().create_task(pipeline.app.stop())
        # Not wait_for: it waits on for an app that does not heed its cancellation.
        done, _ = await asyncio.wait([stopping], timeout=pipeline.transport.grace + 5)
        if not done:
            stopping.cancel()
            self.is_stuck = True
            log.error("an app did not stop in time", app=pipeline.app.conf.id)
        elif error := stopping.exception():
            log.error("an app did not stop cleanly", app=pipeline.app.conf.id, **error_fields(error))
        for step in pipeline.stopped:
            try:
                await step()
            except Exception as error:  # noqa: BLE001  # as above
                log.error("a worker did not stop cleanly", worker=pipeline.name, **error_fields(error))  # noqa: TRY400
        shutil.rmtree(pipeline.app.conf.datadir, ignore_errors=True)

    async def _notice_crash(self, pipeline: ConsumerPipeline) -> None:
        await pipeline.app._crashed.wait()  # noqa: SLF001  # mode offers a property, but nothing to await
        reason = pipeline.app.crash_reason
        pipeline.failed(f"{pipeline.app.conf.id} crashed: {describe(reason) if reason else 'no reason given'}")

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(min(1.0, self._stalled_after))
            for pipeline in list(self.pipelines):
                still = monotonic() - pipeline.progress.moved_at
                if still > self._stalled_after and not pipeline.waits() and await self._lags(pipeline):
                    pipeline.failed(
                        f"{pipeline.app.conf.id} stalled: nothing finished for {still:.0f} s, with records waiting"
                    )
                elif (restarts := self._restarts.get(pipeline.name)) and restarts.are_over():
                    del self._restarts[pipeline.name]
                    self.failures.pop(pipeline.name, None)
                    WORKER_FAILING.labels(pipeline.name).set(0)

    async def _lags(self, pipeline: ConsumerPipeline) -> bool:
        try:
            async with asyncio.timeout(HEALTH_TIMEOUT_SECONDS):
                lag = await pipeline.lag()
        except (TimeoutError, KafkaError):
            return False
        except Exception as error:  # noqa: BLE001  # the watch over the other pipelines must go on
            log.warning("cannot tell a worker's lag", worker=pipeline.name, **error_fields(error))
            return False
        if not lag:
            pipeline.progress.moved_at = monotonic()
        return lag > 0
