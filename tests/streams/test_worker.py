import asyncio
import os
import re
import signal
from collections.abc import Awaitable, Callable

import pytest

from streams.broker import Broker
from streams.produce import Producer, Receipt
from streams.progress import Run
from streams.topics import Topics
from streams.worker import StartError, Worker, make_station

pytestmark = pytest.mark.anyio


class Bench:
    """A worker with one station, whose work a test gives."""

    def __init__(self, broker: Broker, topics: Topics, work: Callable[[Run], Awaitable[None]], **options: float):
        self.producer = Producer(broker, client_id="worker")
        self.worker = Worker(self.producer, **options)
        self.station = make_station(
            "agent",
            topics.events,
            work,
            broker,
            fail=self.worker.fail,
            group=f"{topics.prefix}.agent",
            commit_interval=0.2,
            grace=3,
        )
        self.worker.stations = [self.station]
        self.topic = topics.events

    async def send(self) -> None:
        receipt = Receipt()
        self.producer.append(self.topic, 0, receipt, key=None, value=b"x")
        await receipt.confirmed(120)

    async def run(self, then: Callable[[], None] = lambda: None) -> int:
        tasks: list[asyncio.Task[None]] = []

        def ready() -> None:
            tasks.append(asyncio.get_running_loop().create_task(self.send()))
            then()

        async with asyncio.timeout(120):
            return await self.worker.run(ready)


async def never(run: Run) -> None:
    """Work that does not come to an end, and does not say so."""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_a_worker_in_order(broker: Broker, topics: Topics, number: int):
    """SIGTERM and SIGINT end it with exit code 0."""

    async def finish(run: Run) -> None:
        run.finish()

    assert await Bench(broker, topics, finish).run(lambda: os.kill(os.getpid(), number)) == 0


async def test_a_worker_without_progress_before_waiting_records_ends_with_1(broker: Broker, topics: Topics):
    """Nothing finished for the patience, records waiting, no declared wait: somebody else should try."""
    assert await Bench(broker, topics, never, stalled_after=1.0).run() == 1


async def test_a_declared_wait_is_no_stall(broker: Broker, topics: Topics):
    """A vendor that hangs, or a back-off, keeps the watchdog quiet."""
    bench = Bench(broker, topics, never, stalled_after=0.2)
    looks = 0

    def waits() -> bool:
        nonlocal looks
        looks += 1
        if looks == 10:
            bench.worker.stop()
        return True

    bench.station.waits = waits
    assert await bench.run() == 0


async def test_an_idle_worker_is_no_stalled_one(broker: Broker, topics: Topics):
    """Nothing finished for long, and nothing there to finish: the worker stays, and its lag is none."""

    async def finish(run: Run) -> None:
        run.finish()

    bench = Bench(broker, topics, finish, stalled_after=0.2)
    looks = 0
    lag = bench.station.lag

    async def look() -> int:
        nonlocal looks
        looks += 1
        if looks == 5:
            bench.worker.stop()
        return await lag()

    bench.station.lag = look  # type: ignore[method-assign]
    assert await bench.run() == 0


async def test_work_that_raises_ends_the_worker_with_1(broker: Broker, topics: Topics):
    """An error that nobody handles ends the process, uncommitted."""

    async def fail(run: Run) -> None:
        raise RuntimeError

    bench = Bench(broker, topics, fail)
    assert await bench.run() == 1
    assert await bench_committed(broker, bench) is None


async def bench_committed(broker: Broker, bench: Bench) -> int | None:
    from tests.streams.helpers import committed

    return (await committed(broker, bench.station.app.conf.id, bench.topic))[0] or None


@pytest.mark.parametrize(
    "error", [NotADirectoryError("no folder"), ImportError("pyarrow is not installed: pip install 'turnout[x]'")]
)
async def test_what_a_station_lacks_ends_the_worker_with_its_name(broker: Broker, topics: Topics, error: Exception):
    """A folder that cannot be used, or a library that is missing, is an error that says which station wants it."""

    async def fail() -> None:
        raise error

    bench = Bench(broker, topics, never)
    bench.station.started = [fail]
    with pytest.raises(StartError, match=f"agent cannot start: {re.escape(str(error))}"):
        await bench.run()
