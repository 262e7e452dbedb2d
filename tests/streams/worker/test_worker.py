import asyncio
import os
import re
import signal
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
from prometheus_client import REGISTRY

from streams.kafka.acks import PendingAcks
from streams.kafka.offsets import RecordBatch
from streams.kafka.producer import Producer
from streams.kafka.settings import Broker
from streams.records.format import NewerFormatError
from streams.topics import Topics
from streams.worker.pipeline import ConsumerPipeline, Processor, StartError, make_pipeline
from streams.worker.worker import Worker
from tests.support.reading import until

pytestmark = pytest.mark.anyio


class Bench:
    """A worker with one pipeline, whose work a test gives."""

    def __init__(
        self, broker: Broker, topics: Topics, work: Callable[[RecordBatch], Awaitable[None]],
        hooks: Mapping[str, Any] | None = None, **options: float,
    ):  # fmt: skip
        self.producer = Producer(broker, client_id="worker")
        self.worker = Worker(self.producer, **options)
        self.pipeline = make_pipeline(
            "agent",
            [topics.events],
            lambda _: Processor(work, **(hooks or {})),
            broker,
            fail=self.worker.fail,
            group=f"{topics.prefix}.agent",
            commit_interval=0.2,
            grace=3,
        )
        self.worker.pipelines = [self.pipeline]
        self.topic = topics.events

    async def send(self) -> None:
        acks = PendingAcks()
        self.producer.append(self.topic, 0, acks, key=None, value=b"x")
        await acks.confirmed(120)

    async def run(self, then: Callable[[], None] = lambda: None) -> int:
        tasks: list[asyncio.Task[None]] = []

        def ready() -> None:
            tasks.append(asyncio.get_running_loop().create_task(self.send()))
            then()

        async with asyncio.timeout(120):
            return await self.worker.run(ready)


async def never(run: RecordBatch) -> None:
    """Work that does not come to an end, and does not say so."""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_a_worker_in_order(broker: Broker, topics: Topics, number: int):
    """SIGTERM and SIGINT end it with exit code 0."""

    async def finish(run: RecordBatch) -> None:
        run.finish()

    assert await Bench(broker, topics, finish).run(lambda: os.kill(os.getpid(), number)) == 0


async def test_a_worker_without_progress_before_waiting_records_ends_with_1(broker: Broker, topics: Topics):
    """Nothing finished for the patience, records waiting, no declared wait: somebody else should try."""
    assert await Bench(broker, topics, never, stalled_after=1.0).run() == 1


async def test_a_declared_wait_is_no_stall(broker: Broker, topics: Topics):
    """A vendor that hangs, or a back-off, keeps the watchdog quiet."""
    looks = 0

    def waits() -> bool:
        nonlocal looks
        looks += 1
        if looks == 10:
            bench.worker.stop()
        return True

    bench = Bench(broker, topics, never, {"waits": waits}, stalled_after=0.2)
    assert await bench.run() == 0


async def test_an_idle_worker_is_no_stalled_one(broker: Broker, topics: Topics):
    """If nothing finishes for long because nothing arrives, the worker stays, and its lag is zero."""

    async def finish(run: RecordBatch) -> None:
        run.finish()

    bench = Bench(broker, topics, finish, stalled_after=0.2)
    looks = 0
    lag = bench.pipeline.lag

    async def look() -> int:
        nonlocal looks
        looks += 1
        if looks == 5:
            bench.worker.stop()
        return await lag()

    bench.pipeline.lag = look  # type: ignore[method-assign]
    assert await bench.run() == 0


@pytest.mark.parametrize("wait", ["idle", "declared"])
async def test_the_first_record_after_a_long_wait_is_no_stall(broker: Broker, topics: Topics, wait: str):
    """The time before it came, or before a declared wait ended, does not count."""
    waits = wait == "declared"
    looks = 0
    worked = asyncio.Event()

    def is_waiting() -> bool:
        nonlocal looks
        looks += 1
        return waits

    async def finish(run: RecordBatch) -> None:
        nonlocal waits, looks
        waits, looks = False, 0
        while not looks:  # until the watchdog has looked at it
            await asyncio.sleep(0.05)
        run.finish()
        worked.set()

    bench = Bench(broker, topics, finish, {"waits": is_waiting}, stalled_after=0.8)

    async def send_later() -> None:
        while looks < 5:
            await asyncio.sleep(0.05)
        acks = PendingAcks()
        bench.producer.append(bench.topic, 0, acks, key=None, value=b"x")
        await acks.confirmed(120)
        await worked.wait()
        bench.worker.stop()

    bench.send = send_later  # type: ignore[method-assign]
    assert await bench.run() == 0
    assert worked.is_set()


async def test_work_that_raises_ends_the_worker_with_1(broker: Broker, topics: Topics):
    """An error that nobody handles ends the process, uncommitted."""

    async def fail(run: RecordBatch) -> None:
        raise RuntimeError

    bench = Bench(broker, topics, fail)
    assert await bench.run() == 1
    assert await bench_committed(broker, bench) is None


async def bench_committed(broker: Broker, bench: Bench) -> int | None:
    from tests.support.reading import committed

    return (await committed(broker, bench.pipeline.app.conf.id, bench.topic))[0] or None


@pytest.mark.parametrize(
    "error", [NotADirectoryError("no folder"), ImportError("pyarrow is not installed: pip install 'turnout[x]'")]
)
async def test_what_a_pipeline_lacks_ends_the_worker_with_its_name(broker: Broker, topics: Topics, error: Exception):
    """A folder that cannot be used, or a library that is missing, is an error that says which pipeline wants it."""

    async def fail() -> None:
        raise error

    bench = Bench(broker, topics, never, {"start": fail})
    with pytest.raises(StartError, match=f"agent cannot start: {re.escape(str(error))}"):
        await bench.run()


class Two:
    """A worker with two pipelines: a test controls `bad`, and `good` finishes its records."""

    def __init__(self, broker: Broker, topics: Topics, monkeypatch: pytest.MonkeyPatch, **options: float) -> None:
        monkeypatch.setattr("streams.worker.worker.FIRST_PAUSE_SECONDS", 0.05)
        self.producer = Producer(broker, client_id="worker")
        self.worker = Worker(self.producer, **options)
        self.broker, self.topics = broker, topics
        self.made = 0
        self.tasks: list[asyncio.Task[None]] = []
        self.handled: dict[str, int] = {"bad": 0, "good": 0}
        self.bad: Callable[[RecordBatch], Awaitable[None]] = never
        self.started: Callable[[], Awaitable[None]] | None = None
        self.worker.pipelines = [self.make("bad", "one"), self.make("good", "two")]

    async def start(self) -> None:
        """Start as defined by the test."""
        if self.started:
            await self.started()

    def make(self, name: str, integration: str) -> ConsumerPipeline:
        async def work(run: RecordBatch) -> None:
            if name == "bad":
                await self.bad(run)
            self.handled[name] += len(run.records)
            run.finish()

        self.made += name == "bad"
        hooks = {"start": self.start} if name == "bad" else {}
        return make_pipeline(
            name, [self.topics.forward(integration)], lambda _: Processor(work, **hooks), self.broker,
            fail=self.worker.fail, group=f"{self.topics.prefix}.{name}", commit_interval=0.2, grace=3,
            remake=lambda: self.make(name, integration),
        )  # fmt: skip

    async def send(self, integration: str) -> None:
        acks = PendingAcks()
        self.producer.append(self.topics.forward(integration), 0, acks, key=None, value=b"x")
        await acks.confirmed(60)

    async def run(self, check: Callable[[], Awaitable[None]]) -> int:
        """Run the worker until the check is through."""
        tasks: list[asyncio.Task[None]] = []

        async def checking() -> None:
            try:
                await check()
            finally:
                self.worker.stop()

        async with asyncio.timeout(120):
            code = await self.worker.run(lambda: tasks.append(asyncio.create_task(checking())))
        await asyncio.gather(*tasks)
        return code


def failing(name: str) -> float:
    return REGISTRY.get_sample_value("turnout_worker_failing", {"worker": name}) or 0.0


@pytest.mark.parametrize("how", ["raises", "crashes", "stalls"])
async def test_a_pipeline_that_fails_is_restarted_alone(
    broker: Broker, topics: Topics, monkeypatch: pytest.MonkeyPatch, how: str
):
    """The failed pipeline is reported and restarted after a pause; the other continues."""
    two = Two(broker, topics, monkeypatch, stalled_after=1.0 if how == "stalls" else 180.0)
    others = two.worker.pipelines[1]
    # After a crash nothing is left to be handled again.
    enough = 2 if how == "crashes" else 3

    async def bad(_: RecordBatch) -> None:
        if two.made >= enough:
            return
        if how == "stalls":
            await asyncio.sleep(3600)
        if how == "crashes":
            (failing_pipeline,) = [pipeline for pipeline in two.worker.pipelines if pipeline.name == "bad"]
            failing_pipeline.app.crash_reason = RuntimeError("crash")
            failing_pipeline.app._crashed.set()
            return
        raise RuntimeError

    two.bad = bad

    async def check() -> None:
        await two.send("one")
        await until(lambda: two.made == enough and two.worker.pipelines[-1].name == "bad", 60)
        assert failing("bad") == 1
        await two.send("one")
        await two.send("two")
        await until(lambda: two.handled["good"] == 1, 60)
        await until(lambda: two.handled["bad"] >= 1, 60)
        assert others in two.worker.pipelines
        assert failing("good") == 0

    assert await two.run(check) == 0
    assert two.made == enough


async def test_a_pipeline_that_cannot_start_does_not_hold_up_the_others(
    broker: Broker, topics: Topics, monkeypatch: pytest.MonkeyPatch
):
    """A database that is away when the process starts is tried again."""
    two = Two(broker, topics, monkeypatch)
    fails = True

    async def start() -> None:
        if fails:
            raise ConnectionRefusedError("no database")

    async def finish(_: RecordBatch) -> None:
        pass

    two.bad, two.started = finish, start

    async def check() -> None:
        nonlocal fails
        await two.send("two")
        await until(lambda: two.handled["good"] == 1)
        fails = False
        await two.send("one")
        await until(lambda: two.handled["bad"] == 1)

    assert await two.run(check) == 0


async def test_a_worker_ends_when_none_of_its_pipelines_runs(
    broker: Broker, topics: Topics, monkeypatch: pytest.MonkeyPatch
):
    """With exit code 1: nothing is left that a restart of one pipeline would spare."""
    two = Two(broker, topics, monkeypatch)
    monkeypatch.setattr("streams.worker.worker.FIRST_PAUSE_SECONDS", 3600.0)

    async def check() -> None:
        for pipeline in list(two.worker.pipelines):
            pipeline.fail(f"{pipeline.name} failed")
        await asyncio.sleep(3600)

    async with asyncio.timeout(60):
        assert await two.worker.run(lambda: two.tasks.append(asyncio.create_task(check()))) == 1


async def test_a_newer_format_ends_the_worker(broker: Broker, topics: Topics, monkeypatch: pytest.MonkeyPatch):
    """It is the process that must be upgraded, and a restart of one pipeline would not help."""
    two = Two(broker, topics, monkeypatch)

    async def bad(_: RecordBatch) -> None:
        raise NewerFormatError(2, 1)

    two.bad = bad

    async def check() -> None:
        await two.send("one")
        await asyncio.sleep(3600)

    async with asyncio.timeout(60):
        assert await two.worker.run(lambda: two.tasks.append(asyncio.create_task(check()))) == 1
