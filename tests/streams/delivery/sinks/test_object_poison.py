"""What objects that the store always refuses cost the others, in virtual time."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarders.api.contract import (
    AuthFailed,
    Category,
    Contract,
    Delivered,
    Delivery,
    Limits,
    ObjectForwarder,
    OffsetRange,
    PermanentFailure,
    Result,
    Retry,
)
from streams.delivery.flow.settings import DeliverySettings
from streams.delivery.sinks.object_sink import ObjectSink
from streams.kafka.offsets import OffsetTracker
from streams.records.dead_letter import DeadLetter
from streams.records.delivery import DeliveryRecord
from streams.records.event import Origin
from streams.records.outcomes import Outcomes
from streams.topics import Topics
from tests.support import fuzzing
from tests.support.offline_delivery import START, FakeProducer, OpenSettings, Record, virtually

TP = ("forward", 0)
LATER = "2999-01-01T00:00:00Z"
HOUR = 3600.0
ROWS = 10
REFUSED = PermanentFailure("status_400")


class OpenStore(ObjectForwarder[OpenSettings]):
    """Keeps each object's numbers by its first and last offset; `behave` answers by numbers and time."""

    contract = Contract(
        "store", "Store", "https://example.com", Category.STORAGE, OpenSettings, limits=Limits(1_000_000, 10**8)
    )

    def __init__(self, behave: Callable[[list[int], float], Result]) -> None:
        super().__init__(OpenSettings())
        self.behave, self.rows = behave, ROWS
        self.objects: dict[tuple[int, int], list[int]] = {}
        self.requests: list[tuple[float, list[int]]] = []

    def rotation_key(self, offset: int, time: float) -> Hashable:  # noqa: ARG002
        return offset // self.rows

    def encode(self, items: Iterable[Delivery]) -> bytes:
        return orjson.dumps([item.payload["n"] for item in items])

    async def put(self, content: bytes, offsets: OffsetRange) -> Any:
        numbers = orjson.loads(content)
        now = asyncio.get_running_loop().time()
        await asyncio.sleep(0.01)
        self.requests.append((now, numbers))
        result = self.behave(numbers, now)
        if isinstance(result, Delivered):
            self.objects[offsets.first, offsets.last] = numbers
        return result


class ObjectBench:
    """Delivers numbered payloads as objects of ten to a store; `outcomes` and `dead` are what Kafka would hold."""

    def __init__(self, folder: Path, behave: Callable[[list[int], float], Result], **more: Any) -> None:
        self.loop = asyncio.get_running_loop()
        self.store = OpenStore(behave)
        self.failed: list[Exception] = []
        self.outcomes: Counter[tuple[int, str]] = Counter()
        self.dead: dict[int, DeadLetter] = {}
        self.sink = ObjectSink(
            "one", self.store, DeliverySettings(spool=folder, **more), Topics(),
            FakeProducer(self._look), fail=self.failed.append, clock=lambda: START + self.loop.time(),
        )  # fmt: skip
        self.progress = OffsetTracker()
        self.count = 0
        self.trickle: asyncio.Task[None] | None = None
        self.tasks: list[asyncio.Task[None]] = []

    def _look(self, topic: str, record: Record) -> None:
        if topic == Topics().dead:
            letter = DeadLetter.decode(record.value)
            self.dead[letter.delivery["payload"]["n"]] = letter
        elif topic == Topics().outcomes:
            for span in Outcomes.decode(record.value).spans:
                self.outcomes.update((offset, span.outcome) for offset in range(span.first, span.last + 1))

    @property
    def got(self) -> set[int]:
        return {number for numbers in self.store.objects.values() for number in numbers}

    async def start(self, count: int, every: float = 0) -> None:
        """Forward a number of payloads, and one more to end the last object; then ten at each interval."""
        await self.sink.start()
        self.forward(count + 1)
        if every:
            self.trickle = self.loop.create_task(self._trickle(every))

    async def _trickle(self, every: float) -> None:
        while True:
            await asyncio.sleep(every)
            self.forward(self.store.rows)

    def forward(self, count: int) -> None:
        records = [
            Record(
                n,
                DeliveryRecord(
                    f"m{n}", "r", "v", "track", "E", LATER, LATER, "web", Origin("events", 0, n), {"n": n}
                ).encode(),
                b"k",
            )
            for n in range(self.count, self.count + count)
        ]  # fmt: skip
        self.count += count
        run = self.progress.open(TP, records)
        run.begin()
        self.tasks.append(self.loop.create_task(self.sink.work(run)))

    async def until(self, condition: Callable[[], bool], seconds: float) -> None:
        start = self.loop.time()
        while not condition():
            assert self.loop.time() - start < seconds, (len(self.got), sorted(self.dead), len(self.store.requests))
            await asyncio.sleep(max(0.05, seconds / 2000))

    async def stop(self) -> None:
        if self.trickle:
            self.trickle.cancel()
        await self.sink.settle(60)
        self.progress.drop([TP])
        self.sink.resume([TP])
        await asyncio.gather(*self.tasks)
        await self.sink.stop()
        assert not self.failed
        assert set(self.outcomes.values()) <= {1}


@pytest.fixture(autouse=True)
def encoded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Encode in the loop's thread: virtual time does not wait for others."""
    monkeypatch.setattr("streams.delivery.sinks.object_sink.asyncio.to_thread", at_once)


async def at_once(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


def refusing(bad: Iterable[int], result: Result = REFUSED) -> Callable[[list[int], float], Result]:
    """A store that answers each object with one of these numbers so."""
    return lambda numbers, _now: result if set(bad) & set(numbers) else Delivered()


@given(st.sets(st.integers(0, 69), max_size=12), st.integers(1, 8), st.integers(0, 2**32))
@settings(max_examples=fuzzing.examples(15))
def test_any_set_of_refused_rows(tmp_path_factory, bad, concurrency, seed):
    """While other objects pass, each refused row is dead alone, and every other one is stored once."""
    random.seed(seed)

    async def run() -> None:
        bench = ObjectBench(tmp_path_factory.getbasetemp(), refusing(bad), concurrency=concurrency)
        await bench.start(80, every=20)
        good = set(range(80)) - bad
        await bench.until(lambda: good <= bench.got and set(bench.dead) == bad, 30 * 60)
        assert {letter.reason for letter in bench.dead.values()} <= {"status_400"}
        stored = [number for numbers in bench.store.objects.values() for number in numbers]
        assert len(stored) == len(bench.got)
        assert all(first <= min(n) <= max(n) <= last for (first, last), n in bench.store.objects.items())
        await bench.until(lambda: (bench.sink.objects.committable(TP) or 0) >= 80, 60)
        await bench.stop()
        assert set(bench.outcomes) >= {(n, "dead" if n in bad else "delivered") for n in range(80)}

    virtually(run())


@pytest.mark.parametrize("result", [REFUSED, Retry(), AuthFailed()])
def test_a_store_that_takes_nothing_is_an_outage(tmp_path: Path, result: Result):
    """While no object passes none is dead or divided, for any time; then all are stored whole."""

    async def run() -> None:
        bench = ObjectBench(tmp_path, lambda _, now: result if now < 3 * HOUR else Delivered(), retry_for=HOUR)
        await bench.start(200)
        await bench.until(lambda: len(bench.got) == 200, 4 * HOUR)
        assert not bench.dead
        assert all(len(numbers) == ROWS for _, numbers in bench.store.requests)
        await bench.stop()

    virtually(run())


@pytest.mark.parametrize("result", [Retry(), AuthFailed()])
def test_objects_that_always_fail_stop_no_other_and_are_dead_in_the_end(tmp_path: Path, result: Result):
    """Seven objects that fail while others pass cost those a minute, and are dead after `retry_for`."""
    bad = set(range(70))

    async def run() -> None:
        bench = ObjectBench(tmp_path, refusing(bad, result), retry_for=HOUR)
        await bench.start(1000, every=20)
        await bench.until(lambda: set(range(70, 1000)) <= bench.got, 60)
        assert not bench.dead
        await bench.until(lambda: set(bench.dead) == bad, 6 * HOUR)
        assert {letter.reason for letter in bench.dead.values()} == {"retries"}
        assert all(letter.attempts > 10 for letter in bench.dead.values())
        await bench.until(lambda: (bench.sink.objects.committable(TP) or 0) >= 1000, 60)
        await bench.stop()

    virtually(run())


def test_an_object_whose_every_row_is_refused_costs_few_requests(tmp_path: Path):
    """After eight rows that were refused alone the rest of the object is dead untried."""

    async def run() -> None:
        bad = set(range(500, 1000))
        bench = ObjectBench(tmp_path, refusing(bad))
        bench.store.rows = 500
        await bench.start(1500, every=20)
        await bench.until(lambda: set(bench.dead) == bad, HOUR)
        assert sum(not bad.isdisjoint(numbers) for _, numbers in bench.store.requests) <= 50
        await bench.stop()

    virtually(run())
