"""A worker process: its producer, its Faust apps, what ends it and with which exit code."""

import asyncio
import logging
import shutil
import signal
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, cast

import faust
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streams.broker import Broker
from streams.garbage import collect_less
from streams.logs import trouble
from streams.produce import Producer
from streams.progress import Progress, Run
from streams.topics import RECORD_BYTES
from streams.transport import Consumer, Transport

log = structlog.get_logger()

STALLED_AFTER = 180.0
"""Seconds without any progress, while there is lag and nobody declared a wait, after which a worker gives up."""

LOOK_TIMEOUT = 10.0
"""Seconds for a look at the lag; a Kafka that does not answer is no stall of ours."""

# Faust and aiokafka build debug records in their send path even when nobody reads them, at 13 to 37 % of the speed.
logging.disable(logging.DEBUG)


def _nobody_waits() -> bool:
    return False


class StartError(Exception):
    """A station lacks what it needs on this machine: a folder, a library."""


@dataclass
class Station:
    """One Faust app of a worker, its runs, and whether it waits for something declared (a vendor, a back-off)."""

    name: str
    app: faust.App
    broker: Broker
    progress: Progress
    transport: Transport
    waits: Callable[[], bool] = _nobody_waits
    started: Sequence[Callable[[], Awaitable[None]]] = field(default_factory=list)
    stopped: Sequence[Callable[[], Awaitable[None]]] = field(default_factory=list)

    async def lag(self) -> int:
        """How many records of our partitions are not finished, by a look at Kafka of its own; of those that rest, none.

        What the app's consumer knows is no help: one that silently stopped fetching believes to be at the end. Raises
        KafkaError when Kafka does not answer.
        """
        resting = cast("Consumer", self.app.consumer).resting
        parts = [TopicPartition(*tp) for tp in self.app.consumer.assignment() if tp not in resting]
        if not parts:
            return 0
        consumer = AIOKafkaConsumer(**self.broker.consumer(), group_id=self.app.conf.id, enable_auto_commit=False)
        await consumer.start()
        try:
            ends, begins = await consumer.end_offsets(parts), await consumer.beginning_offsets(parts)
            lag = 0
            for part in parts:
                done = self.progress.committable(part) or await consumer.committed(part) or 0
                lag += ends[part] - max(begins[part], done)
            return lag
        finally:
            await consumer.stop()


def make_station(
    name: str,
    topic: str,
    work: Callable[[Run], Awaitable[None]],
    broker: Broker,
    *,
    fail: Callable[[str], None],
    group: str,
    commit_interval: float,
    grace: float,
    beside: Sequence[str] = (),
    poll_records: int = 500,
    budget: int = 16 * 1024 * 1024,
) -> Station:
    """A Faust app whose one agent hands each run of `topic` and of those `beside` it to `work`, in the group `group`.

    What can be handled is an outcome; what `work` raises all the same ends the process through `fail`, uncommitted.
    """
    app = faust.App(
        group,
        **broker.faust(),
        broker_client_id=group,
        broker_commit_interval=commit_interval,
        broker_max_poll_records=poll_records,
        # After its default of 1,000 s without a fetch aiokafka leaves the group, and Faust never joins it again.
        broker_max_poll_interval=1_000_000,
        consumer_max_fetch_size=2 * RECORD_BYTES,
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
    progress = Progress(budget)
    transport = Transport(app.conf.broker_consumer, app, progress=progress, grace=grace)
    app.transport = transport
    source = app.topic(topic, *beside, value_type=None, value_serializer="raw", acks=False)

    async def agent(runs: Any) -> None:
        async for run in runs:
            if run.begin():
                try:
                    await work(run)
                except Exception as error:  # noqa: BLE001  # if it left, Faust would acknowledge the run, and lose it
                    log.error("agent cannot go on", agent=name, **trouble(error))  # noqa: TRY400
                    fail(f"{name}: {type(error).__name__} while working on {run.tp[0]}:{run.tp[1]}")
                    return
            # The queue behind a busy stream never yields by itself, and confirmations must be heard.
            await asyncio.sleep(0)

    app.agent(source, name=name)(agent)
    return Station(name, app, broker, progress, transport)


class Worker:
    """Runs stations until it is told to stop, or one of them cannot go on."""

    def __init__(self, producer: Producer, *, stalled_after: float = STALLED_AFTER) -> None:
        self.producer = producer
        self.stations: list[Station] = []
        self._stalled_after = stalled_after
        self._over: asyncio.Future[str | None] | None = None
        self._crashes: dict[str, asyncio.Task[None]] = {}

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
        collect_less()
        loop = asyncio.get_running_loop()
        self._over = loop.create_future()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        watch: asyncio.Task[None] | None = None
        try:
            await self.producer.start()
            await asyncio.gather(*(self._start_station(station) for station in self.stations))
            watch = loop.create_task(self._watch())
            ready()
            why = await self._over
        finally:
            for task in (watch, *self._crashes.values()):
                if task:
                    task.cancel()
            await self._stop_all()
        if why is not None:
            log.error("worker ends", reason=why)
        return 0 if why is None else 1

    async def _start_station(self, station: Station) -> None:
        for step in station.started:
            try:
                await step()
            except (OSError, ImportError) as error:
                raise StartError(f"{station.name} cannot start: {error}") from error
        await station.app.start()
        self._crashes[station.name] = asyncio.get_running_loop().create_task(self._notice_crash(station))

    async def add(self, station: Station) -> None:
        """Start one more station beside those that run."""
        await self._start_station(station)
        self.stations.append(station)

    async def remove(self, name: str) -> None:
        """Stop one station in order, and forget it; the others are not held up."""
        for station in [station for station in self.stations if station.name == name]:
            self.stations.remove(station)
            self._crashes.pop(name).cancel()
            await self._stop_station(station)

    async def _stop_all(self) -> None:
        await asyncio.gather(*(self._stop_station(station) for station in self.stations))
        await self.producer.stop()

    async def _stop_station(self, station: Station) -> None:
        try:
            await asyncio.wait_for(station.app.stop(), station.transport.grace + 5)
        except Exception as error:  # noqa: BLE001  # the others still want to be stopped
            log.error("an app did not stop cleanly", app=station.app.conf.id, **trouble(error))  # noqa: TRY400
        for step in station.stopped:
            await step()
        shutil.rmtree(station.app.conf.datadir, ignore_errors=True)

    async def _notice_crash(self, station: Station) -> None:
        await station.app._crashed.wait()  # noqa: SLF001  # mode offers a property, but nothing to await
        reason = station.app.crash_reason
        self.fail(f"{station.app.conf.id} crashed: {type(reason).__name__}: {reason}".splitlines()[0])

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(min(1.0, self._stalled_after))
            for station in list(self.stations):
                still = monotonic() - station.progress.moved_at
                if still > self._stalled_after and not station.waits() and await self._lags(station):
                    self.fail(
                        f"{station.app.conf.id} stalled: nothing finished for {still:.0f} s, with records waiting"
                    )

    async def _lags(self, station: Station) -> bool:
        try:
            async with asyncio.timeout(LOOK_TIMEOUT):
                lag = await station.lag()
        except (TimeoutError, KafkaError):
            return False
        if not lag:
            station.progress.moved_at = monotonic()
        return lag > 0
