"""A worker process: its producer, its Faust apps, what ends it and with which exit code."""

import asyncio
import logging
import shutil
import signal
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Any, cast

import faust
import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from faust.types import TP

from streams.broker import Broker
from streams.garbage import collect_less
from streams.guard import BrokenWorkerError
from streams.internal_error import describe
from streams.lag import find_lag, offsets_done
from streams.logs import trouble
from streams.metrics import WORKER_FAILING
from streams.produce import Producer
from streams.progress import Progress, Run
from streams.topics import RECORD_BYTES, NewerFormatError
from streams.transport import Consumer, Transport

log = structlog.get_logger()

STALLED_AFTER = 180.0
"""Seconds without any progress, while there is lag and nobody declared a wait, after which a worker gives up."""

FIRST_PAUSE = 1.0
"""Seconds before a station that failed is restarted; doubles each time."""

LONGEST_PAUSE = 300.0
"""The longest such pause in seconds."""

STEADY_AFTER = 60.0
"""Seconds without another failure after which a restarted station no longer counts as failing."""

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
    """One Faust app of a worker, its runs, and whether it waits for something declared (a vendor, a back-off).

    `end` ends the process: for a broker that fails, and for records that only a newer version can read. `failed` is
    called with every other reason why the station cannot go on. `again` makes it anew; a station without it cannot be
    restarted alone, and ends the process. `why` says why it failed.
    """

    name: str
    app: faust.App
    broker: Broker
    progress: Progress
    transport: Transport
    end: Callable[[str], None]
    failed: Callable[[str], None]
    again: "Callable[[], Station] | None" = None
    why: str = ""
    waits: Callable[[], bool] = _nobody_waits
    started: Sequence[Callable[[], Awaitable[None]]] = field(default_factory=list)
    stopped: Sequence[Callable[[], Awaitable[None]]] = field(default_factory=list)

    def give_up(self, error: Exception, doing: str) -> None:
        """Report an error that is no single record's; what is not finished is not committed, and comes again."""
        log.error("cannot go on", station=self.name, doing=doing, **trouble(error))
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

    `work` makes an outcome of everything that is wrong with a record. If it raises, nothing is committed: the station
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
                    station.give_up(error, f"working on {run.tp[0]}:{run.tp[1]}")
                    return
            # The queue behind a busy stream never yields by itself, and confirmations must be heard.
            await asyncio.sleep(0)

    app.agent(source, name=name)(agent)
    station = Station(name, app, broker, progress, transport, end=fail, failed=fail)
    return station


@dataclass
class Restarts:
    """How often one station was restarted without a steady time in between, and when it was the last time."""

    count: int = 0
    latest: float = field(default_factory=monotonic)

    def pause(self) -> float:
        """Return the seconds to wait before the next restart."""
        return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self.count, 30))

    def are_over(self) -> bool:
        """Whether the station has run steadily since."""
        return monotonic() - self.latest > STEADY_AFTER


class Worker:
    """Runs stations until it is told to stop, or none of them can go on.

    A station that fails (its app crashes, its work raises, it stalls) is restarted alone, after a pause that doubles up
    to LONGEST_PAUSE seconds; the others go on. If no station is left that runs, the process ends with exit code 1.
    """

    def __init__(self, producer: Producer, *, stalled_after: float = STALLED_AFTER) -> None:
        self.producer = producer
        self.stations: list[Station] = []
        self._stalled_after = stalled_after
        self._over: asyncio.Future[str | None] | None = None
        self._crashes: dict[str, asyncio.Task[None]] = {}
        self._failing: dict[str, asyncio.Task[None]] = {}
        self._restarts: dict[str, Restarts] = {}
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
        collect_less()
        loop = asyncio.get_running_loop()
        self._over = loop.create_future()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        watch: asyncio.Task[None] | None = None
        try:
            await self.producer.start()
            await self._start_all()
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

    async def _start_all(self) -> None:
        """Start all stations; those that cannot start are restarted later, unless none can. Raises StartError."""
        stations = list(self.stations)
        errors = await asyncio.gather(*map(self._start_station, stations), return_exceptions=True)
        failed = [(station, error) for station, error in zip(stations, errors, strict=True) if error is not None]
        for station, error in failed:
            if not isinstance(error, StartError) or station.again is None or len(failed) == len(stations):
                raise error
        for station, error in failed:
            self._fail_station(station, str(error))

    async def _start_station(self, station: Station) -> None:
        if station.again is not None:
            station.failed = partial(self._fail_station, station)
        for step in station.started:
            try:
                await step()
            except (OSError, ImportError) as error:
                raise StartError(f"{station.name} cannot start: {error}") from error
            except Exception as error:
                raise StartError(f"{station.name} cannot start: {describe(error)}") from error
        await station.app.start()
        self._crashes[station.name] = asyncio.get_running_loop().create_task(self._notice_crash(station))

    def _fail_station(self, station: Station, why: str) -> None:
        """Restart one station; end the process if no other runs."""
        station.why = why
        if station not in self.stations:
            return  # it is only starting, or failed already
        self.stations.remove(station)
        WORKER_FAILING.labels(station.name).set(1)
        if not self.stations:
            self.stations.append(station)
            self.fail(why)
            return
        self._failing[station.name] = asyncio.get_running_loop().create_task(self._restart(station))

    async def _restart(self, station: Station) -> None:
        """Stop a station, and start it anew until it runs."""
        name, why = station.name, station.why
        if crash := self._crashes.pop(name, None):
            crash.cancel()
        await self._stop_station(station)
        assert station.again
        while True:
            restarts = self._restarts.setdefault(name, Restarts())
            pause = restarts.pause()
            log.error("worker is failing; the others go on", worker=name, reason=why, restart_seconds=pause)
            await asyncio.sleep(pause)
            restarts.count, restarts.latest = restarts.count + 1, monotonic()
            made = station.again()
            try:
                await self._start_station(made)
                break
            except StartError as error:
                why = str(error)
            except Exception as error:  # noqa: BLE001  # it is tried again
                why = describe(error)
            except asyncio.CancelledError:
                await self._stop_station(made)
                raise
            await self._stop_station(made)
        del self._failing[name]
        log.info("worker was restarted", worker=name)
        self._run_with_others(made)

    def _run_with_others(self, station: Station) -> None:
        self.stations.append(station)
        if station.why:
            self._fail_station(station, station.why)

    async def add(self, station: Station) -> None:
        """Start one more station beside those that run."""
        await self._start_station(station)
        self._run_with_others(station)

    async def remove(self, name: str) -> None:
        """Stop one station in order, and forget it; the others are not held up."""
        if restart := self._failing.pop(name, None):
            restart.cancel()
            await asyncio.gather(restart, return_exceptions=True)
        self._restarts.pop(name, None)
        WORKER_FAILING.labels(name).set(0)
        for station in [station for station in self.stations if station.name == name]:
            self.stations.remove(station)
            if crash := self._crashes.pop(name, None):
                crash.cancel()
            await self._stop_station(station)

    async def _stop_all(self) -> None:
        if self._failing:
            log.error("stopping while some workers are failing", workers=sorted(self._failing))
        for task in self._failing.values():
            task.cancel()
        await asyncio.gather(*self._failing.values(), return_exceptions=True)
        await asyncio.gather(*(self._stop_station(station) for station in self.stations))
        await self.producer.stop()

    async def _stop_station(self, station: Station) -> None:
        stopping = asyncio.get_running_loop().create_task(station.app.stop())
        # Not wait_for: it waits on for an app that does not heed its cancellation.
        done, _ = await asyncio.wait([stopping], timeout=station.transport.grace + 5)
        if not done:
            stopping.cancel()
            self.is_stuck = True
            log.error("an app did not stop in time", app=station.app.conf.id)
        elif error := stopping.exception():
            log.error("an app did not stop cleanly", app=station.app.conf.id, **trouble(error))
        for step in station.stopped:
            try:
                await step()
            except Exception as error:  # noqa: BLE001  # as above
                log.error("a worker did not stop cleanly", worker=station.name, **trouble(error))  # noqa: TRY400
        shutil.rmtree(station.app.conf.datadir, ignore_errors=True)

    async def _notice_crash(self, station: Station) -> None:
        await station.app._crashed.wait()  # noqa: SLF001  # mode offers a property, but nothing to await
        reason = station.app.crash_reason
        station.failed(f"{station.app.conf.id} crashed: {describe(reason) if reason else 'no reason given'}")

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(min(1.0, self._stalled_after))
            for station in list(self.stations):
                still = monotonic() - station.progress.moved_at
                if still > self._stalled_after and not station.waits() and await self._lags(station):
                    station.failed(
                        f"{station.app.conf.id} stalled: nothing finished for {still:.0f} s, with records waiting"
                    )
                elif (restarts := self._restarts.get(station.name)) and restarts.are_over():
                    del self._restarts[station.name]
                    WORKER_FAILING.labels(station.name).set(0)

    async def _lags(self, station: Station) -> bool:
        try:
            async with asyncio.timeout(LOOK_TIMEOUT):
                lag = await station.lag()
        except (TimeoutError, KafkaError):
            return False
        except Exception as error:  # noqa: BLE001  # the watch over the other stations must go on
            log.warning("cannot tell a worker's lag", worker=station.name, **trouble(error))
            return False
        if not lag:
            station.progress.moved_at = monotonic()
        return lag > 0
