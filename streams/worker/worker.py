"""Run a worker process: a producer and any number of pipelines."""

import asyncio
import shutil
import signal
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Any

import structlog
from aiokafka.errors import KafkaError

from streams.kafka.producer import Producer
from streams.observability.internal_error import describe, to_exception
from streams.observability.logging import error_fields
from streams.observability.metrics import WORKER_FAILING
from streams.worker.gc_tuning import relax_gc
from streams.worker.pipeline import ConsumerPipeline, StartError

log = structlog.get_logger()

STALLED_SECONDS = 180.0
"""Seconds without progress, despite lag and without a declared wait, after which a pipeline fails."""

FIRST_PAUSE_SECONDS = 1.0
"""Seconds before a failed pipeline is restarted; doubles each time."""

MAX_PAUSE_SECONDS = 300.0
"""Maximum seconds before a failed pipeline is restarted."""

STEADY_SECONDS = 60.0
"""Seconds without another failure after which a restarted pipeline counts as healthy."""

HEALTH_TIMEOUT_SECONDS = 10.0
"""Seconds to query the lag; if Kafka does not respond, the pipeline is not considered stalled."""


@dataclass
class Restarts:
    """The restarts of one pipeline since it was last healthy, and the time of the latest (monotonic seconds)."""

    count: int = 0
    latest: float = field(default_factory=monotonic)

    def pause(self) -> float:
        """Return the seconds to wait before the next restart."""
        return min(MAX_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(self.count, 30))

    def are_over(self) -> bool:
        """Return whether the pipeline has been healthy since."""
        return monotonic() - self.latest > STEADY_SECONDS


class Worker:
    """Run pipelines until it is stopped, or all of them have failed.

    A pipeline that fails (its app crashes, its processor raises, it stalls) is restarted alone, after a pause that
    doubles up to MAX_PAUSE_SECONDS; the others continue. If no pipeline is running, the process exits with code 1.
    """

    def __init__(self, producer: Producer, *, stalled_after: float = STALLED_SECONDS) -> None:
        self.producer = producer
        self.pipelines: list[ConsumerPipeline] = []
        """Those that `run` starts, and those that run."""
        self._stalled_after = stalled_after
        self._over: asyncio.Future[str | None] | None = None
        self._crashes: dict[str, asyncio.Task[None]] = {}
        self._failing: dict[str, asyncio.Task[None]] = {}
        self._restarts: dict[str, Restarts] = {}
        self._lagging_since: dict[str, float] = {}
        self.failures: dict[str, str] = {}
        """Why each pipeline failed that waits for its restart, or that is not healthy again yet."""
        self.background: list[Callable[[], Coroutine[Any, Any, None]]] = []
        """Tasks that `run` starts before the pipelines, and cancels after they have stopped."""
        self.is_stuck = False
        """Whether an app ignored its cancellation, so that its tasks may keep the event loop from closing."""

    def fail(self, why: str) -> None:
        """Exit with code 1; records without an acknowledged outcome are not committed and will be redelivered."""
        if self._over is not None and not self._over.done():
            self._over.set_result(why)

    def stop(self) -> None:
        """Shut down, and exit with code 0."""
        if self._over is not None and not self._over.done():
            self._over.set_result(None)

    async def run(self, ready: Callable[[], None] = lambda: None) -> int:
        """Run the pipelines until `stop`, `fail`, SIGTERM or SIGINT; return the exit code."""
        relax_gc()
        loop = asyncio.get_running_loop()
        self._over = loop.create_future()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        watch: asyncio.Task[None] | None = None
        background: list[asyncio.Task[None]] = []
        try:
            await self.producer.start()
            background += [loop.create_task(make()) for make in self.background]
            await self._start_all()
            watch = loop.create_task(self._watch())
            ready()
            why = await self._over
        finally:
            for task in (watch, *self._crashes.values()):
                if task:
                    task.cancel()
            await self._stop_all()
            for other in background:
                other.cancel()
            await asyncio.gather(*background, return_exceptions=True)
        if why is not None:
            log.error("worker stopped", reason=why)
        return 0 if why is None else 1

    async def _start_all(self) -> None:
        """Start all pipelines; those that fail to start are restarted later. Raises StartError if all fail."""
        pipelines = list(self.pipelines)
        errors = await asyncio.gather(*map(self._start_pipeline, pipelines), return_exceptions=True)
        failed = [(pipeline, error) for pipeline, error in zip(pipelines, errors, strict=True) if error is not None]
        for pipeline, error in failed:
            if not isinstance(error, StartError) or pipeline.remake is None or len(failed) == len(pipelines):
                raise error
        for pipeline, error in failed:
            pipeline.fail(str(error))

    async def _start_pipeline(self, pipeline: ConsumerPipeline) -> None:
        await pipeline.start(partial(self._fail_pipeline, pipeline) if pipeline.remake is not None else None)
        self._crashes[pipeline.name] = asyncio.get_running_loop().create_task(self._notice_crash(pipeline))

    def _fail_pipeline(self, pipeline: ConsumerPipeline, why: str) -> None:
        """Restart one pipeline, or end the process if no other is running."""
        if pipeline not in self.pipelines:
            return  # it is still starting, or has failed already
        self.pipelines.remove(pipeline)
        WORKER_FAILING.labels(pipeline.name).set(1)
        self.failures[pipeline.name] = why
        if not self.pipelines:
            self.pipelines.append(pipeline)
            self.fail(why)
            return
        self._failing[pipeline.name] = asyncio.get_running_loop().create_task(self._restart(pipeline))

    async def _restart(self, pipeline: ConsumerPipeline) -> None:
        """Stop a pipeline, and start new ones in its place until one runs."""
        name, why = pipeline.name, pipeline.why
        if crash := self._crashes.pop(name, None):
            crash.cancel()
        await self._stop_pipeline(pipeline)
        assert pipeline.remake
        while True:
            restarts = self._restarts.setdefault(name, Restarts())
            pause = restarts.pause()
            log.error(
                "worker failed; the others continue",
                worker=name,
                reason=why,
                restart_seconds=pause,
            )
            await asyncio.sleep(pause)
            restarts.count, restarts.latest = restarts.count + 1, monotonic()
            made = pipeline.remake()
            try:
                await self._start_pipeline(made)
                break
            except StartError as error:
                why = str(error)
            except asyncio.CancelledError:
                await self._stop_pipeline(made)
                raise
            except BaseException as error:  # noqa: BLE001  # it is retried
                why = describe(to_exception(error))
            await self._stop_pipeline(made)
        del self._failing[name]
        log.info("worker restarted", worker=name)
        self._run_with_others(made)

    def _run_with_others(self, pipeline: ConsumerPipeline) -> None:
        self.pipelines.append(pipeline)
        if pipeline.why:
            self._fail_pipeline(pipeline, pipeline.why)

    async def add(self, pipeline: ConsumerPipeline) -> None:
        """Start another pipeline."""
        await self._start_pipeline(pipeline)
        self._run_with_others(pipeline)

    async def remove(self, name: str) -> None:
        """Stop one pipeline and remove it; the others continue."""
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
        # Not wait_for, which keeps waiting for an app that ignores its cancellation.
        done, _ = await asyncio.wait([stopping], timeout=pipeline.transport.grace + 5)
        if not done:
            stopping.cancel()
            self.is_stuck = True
            log.error("app did not stop in time", app=pipeline.app.conf.id)
        elif error := stopping.exception():
            log.error("app failed to stop cleanly", app=pipeline.app.conf.id, **error_fields(error))
        try:
            await pipeline.stop_processor()
        except BaseException as error:  # noqa: BLE001  # as above
            log.error("worker failed to stop cleanly", worker=pipeline.name, **error_fields(to_exception(error)))  # noqa: TRY400
        shutil.rmtree(pipeline.app.conf.datadir, ignore_errors=True)

    async def _notice_crash(self, pipeline: ConsumerPipeline) -> None:
        await pipeline.app._crashed.wait()  # noqa: SLF001  # mode offers a property, but nothing to await
        reason = pipeline.app.crash_reason
        pipeline.fail(f"{pipeline.app.conf.id} crashed: {describe(reason) if reason else 'no reason given'}")

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(min(1.0, self._stalled_after))
            for pipeline in list(self.pipelines):
                progress = pipeline.progress
                still = monotonic() - progress.moved_at
                if pipeline.waits():
                    progress.moved_at = monotonic()
                elif still > self._stalled_after and await self._lags(pipeline):
                    # The records may have come a moment ago, after a long time without any: they get the same time.
                    if self._lagging_since.get(pipeline.name) != progress.moved_at:
                        self._lagging_since[pipeline.name] = progress.moved_at = monotonic()
                        continue
                    pipeline.fail(
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
        except BaseException as error:  # noqa: BLE001  # the other pipelines must still be watched
            log.warning("failed to query the lag", worker=pipeline.name, **error_fields(to_exception(error)))
            return False
        if not lag:
            pipeline.progress.moved_at = monotonic()
        return lag > 0
