"""Run one integration's real delivery without Kafka and HTTP: an in-process vendor, and virtual time."""

import asyncio
import heapq
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from unittest.mock import patch

from forwarders.api.contract import (
    Category,
    Contract,
    Delivered,
    Delivery,
    Forwarder,
    HttpForwarder,
    Limits,
    OffsetRange,
    Request,
    Response,
    Result,
    Retry,
    Settings,
    WriterForwarder,
)
from streams.delivery.flow.settings import DeliverySettings
from streams.delivery.http.client import UnreachableError
from streams.delivery.sinks.delivery_sink import DeliverySink
from streams.kafka.offsets import OffsetTracker, RecordBatch
from streams.kafka.producer import NO_HEADERS, Producer
from streams.kafka.settings import Broker
from streams.parsing.times import rfc3339
from streams.records.dead_letter import DeadLetter
from streams.records.delivery import DeliveryRecord, Retried
from streams.records.event import Origin
from streams.records.format import Headers
from streams.topics import Topics

START = 1_800_000_000.0
HOUR = 3600.0
TOPICS = Topics()

Behaviour = Callable[[Sequence[dict[str, Any]], float], int | None]
"""The vendor's status for a request's payloads at a time in seconds since the start; None: no answer in time."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop with virtual time, which jumps to the next timer as soon as nothing else is left to do."""

    now = 0.0

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        scheduled = self._scheduled  # type: ignore[attr-defined]
        while scheduled and scheduled[0]._cancelled:
            self._timer_cancelled_count -= 1  # type: ignore[attr-defined]
            heapq.heappop(scheduled)._scheduled = False
        if scheduled and not self._ready:  # type: ignore[attr-defined]
            self.now = max(self.now, scheduled[0]._when)
        super()._run_once()  # type: ignore[misc]


def virtually(main: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


class OpenSettings(Settings):
    """No settings."""


class OpenVendor(HttpForwarder[OpenSettings]):
    """A vendor that accepts lists of any payloads; the status applies to all of a request."""

    contract = Contract("open", "Open", "https://example.com", Category.ANALYTICS, OpenSettings, limits=Limits(items=1))

    def build_request(self, items: Sequence[Delivery]) -> Request:
        return Request("POST", "https://example.com/", body=[dict(item.payload) for item in items])


class OpenWriter(WriterForwarder[OpenSettings]):
    """A writer that behaves like the bench's vendor."""

    contract = Contract(
        "writer", "Writer", "https://example.com", Category.STORAGE, OpenSettings, limits=Limits(items=1)
    )
    bench: "OfflineBench"

    async def write(self, items: Sequence[Delivery], offsets: OffsetRange) -> Sequence[Result]:  # noqa: ARG002
        status = await self.bench.answer([dict(item.payload) for item in items])
        return [Delivered() if status == 200 else Retry()] * len(items)


@dataclass
class Record:
    """A record in Kafka's form."""

    offset: int
    value: bytes
    key: bytes | None
    headers: Headers = field(default_factory=list)
    timestamp: int = 0


class FakeProducer(Producer):
    """Confirms each record at once, and passes it on with its topic."""

    def __init__(self, look: Callable[[str, Record], object] = lambda _topic, _record: None) -> None:
        super().__init__(Broker(), client_id="offline")
        self._look = look

    def append(
        self,
        topic: str,
        _partition: int,
        waiter: Any,
        *,
        key: bytes | None,
        value: bytes,
        headers: Headers = NO_HEADERS,
    ) -> None:
        waiter.hold()
        asyncio.get_running_loop().call_soon(waiter.release, None)
        self._look(topic, Record(0, value, key, list(headers)))

    async def wait_for_room(self) -> None:
        return


class OfflineBench:
    """Delivers numbered payloads `{"n": 0, "u": user}`; records of the retry topic are read when due."""

    def __init__(
        self, behave: Behaviour, *, items: int = 1, latency: float = 0.01, kind: type[Forwarder[Any]] = OpenVendor,
        returns: bool = True, budget: int = 1 << 40, **settings: Any,
    ) -> None:  # fmt: skip
        self.loop = asyncio.get_running_loop()
        self.behave, self.latency, self.returns = behave, latency, returns
        self.settings = DeliverySettings(**{"timeout": 20.0, "items": items, **settings})
        self.requests: list[tuple[float, list[int], int | None]] = []
        self.begun = 0
        self.tries: Counter[int] = Counter()
        self.got: list[int] = []
        self.failed: list[Exception] = []
        self.dead: dict[int, DeadLetter] = {}
        self.retried: list[tuple[int, Retried]] = []
        self.producer = FakeProducer(self._look)
        self.progress = OffsetTracker(budget)
        self._retries: list[Record] = []
        self._next_retry, self._pause = 0, 0.0
        self._reader: asyncio.Task[None] | None = None
        self._offsets: Counter[tuple[str, int]] = Counter()
        contract = type("Sized", (kind,), {"contract": _with_items(kind.contract, items)})
        self.forwarder = contract(OpenSettings())
        if isinstance(self.forwarder, OpenWriter):
            self.forwarder.bench = self
        self.sink = DeliverySink(
            "one", self.forwarder, self.settings, TOPICS, self.producer,  # type: ignore[arg-type]
            fail=self.failed.append, clock=self.clock, timer=self.loop.time,
            is_full=lambda: self.progress.held >= self.progress.budget, give_back=self._give_back,
        )  # fmt: skip
        self.sink._sender._client.send = self._send  # type: ignore[method-assign]

    def clock(self) -> float:
        return START + self.loop.time()

    async def answer(self, payloads: Sequence[dict[str, Any]]) -> int | None:
        """Return the vendor's response to one request."""
        numbers = [payload["n"] for payload in payloads]
        self.begun += 1
        status = self.behave(payloads, self.loop.time())
        await asyncio.sleep(self.latency if status is not None else self.settings.timeout)
        self.requests.append((self.loop.time(), numbers, status))
        self.tries.update(numbers)
        if status == 200:
            self.got += numbers
        return status

    async def _send(self, request: Request) -> Response:
        status = await self.answer(request.body)
        if status is None:
            raise UnreachableError("TimeoutError")
        return Response(status, {}, b"{}")

    async def start(self) -> None:
        with patch.object(self.sink._sender, "open", _nothing):
            await self.sink.start()

    async def stop(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
        self.sink._pool.leaving.set()
        self.sink._breaker.wake()
        self.sink._sender.close = _nothing  # type: ignore[method-assign]
        await self.sink.settle(60)
        await self.sink.stop()
        assert not self.failed

    async def forward(
        self, payloads: Iterable[dict[str, Any]], *, partition: int = 0, run: int = 500, retried: Headers = NO_HEADERS
    ) -> list[RecordBatch]:
        """Pass payloads to the sink, in batches of `run` records; with `retried` from the retry topic."""
        records = []
        topic = TOPICS.forward("one")
        for payload in payloads:
            offset = self._offsets[topic, partition]
            self._offsets[topic, partition] += 1
            delivery = DeliveryRecord(
                f"m{payload['n']}", "r", "v1", "track", "E", rfc3339(self.clock()), "t", "web",
                Origin(TOPICS.events, partition, payload["n"]), payload,
            )  # fmt: skip
            records.append(Record(offset, delivery.encode(), str(payload.get("u", payload["n"])).encode(), retried))
        if retried:
            for record in records:
                self._append_retry(record)
            await asyncio.sleep(0)
            return []
        return [
            await self._work((topic, partition), records[first : first + run]) for first in range(0, len(records), run)
        ]

    async def _work(self, tp: tuple[str, int], records: Sequence[Record]) -> RecordBatch:
        run = self.progress.open(tp, records)
        run.begin()
        await self.sink.work(run)
        return run

    def _look(self, topic: str, record: Record) -> None:
        """Record dead letters and retries, and pass retries to the sink when they are due."""
        if topic == TOPICS.dead:
            letter = DeadLetter.decode(record.value)
            self.dead[letter.delivery["payload"]["n"]] = letter
        elif topic == TOPICS.retry("one"):
            self.retried.append((DeliveryRecord.decode(record.value).payload["n"], Retried.decode(record.headers)))
            if self.returns:
                self._append_retry(record)

    def _append_retry(self, record: Record) -> None:
        record.offset = len(self._retries)
        self._retries.append(record)
        if self._reader is None or self._reader.done():
            self._reader = self.loop.create_task(self._read_retries())

    async def _read_retries(self) -> None:
        """Read the retry topic like the transport: records that are given back are fetched again later."""
        tp = (TOPICS.retry("one"), 0)
        while self._next_retry < len(self._retries):
            while not await self.progress.wait_for_room(HOUR):
                pass
            fetched = self._retries[self._next_retry : self._next_retry + 500]
            self._next_retry = end = fetched[-1].offset + 1
            unfinished = self.progress.without_finished(tp, fetched)
            if unfinished:
                await self._work(tp, unfinished)
            else:
                self.progress.skip(tp, end)
            pause, self._pause = self._pause, 0.0
            await asyncio.sleep(pause)

    def _give_back(self, batch: RecordBatch, index: int, seconds: float) -> None:
        if not batch.dropped:
            self._next_retry, self._pause = batch.records[index].offset, seconds
            batch.truncate(index)

    def revoke(self) -> None:
        """Revoke both topics' partitions, with everything written to them."""
        if self._reader is not None:
            self._reader.cancel()
        self._next_retry = len(self._retries)
        self.progress.drop([(TOPICS.forward("one"), 0), (TOPICS.retry("one"), 0)])

    async def until(self, condition: Callable[[], bool], seconds: float) -> float:
        """Wait for a condition, at most `seconds` of virtual time; returns how many it took."""
        start = self.loop.time()
        while not condition():
            assert self.loop.time() - start < seconds, f"not within {seconds} s; {self}"
            await asyncio.sleep(max(0.05, seconds / 20_000))
        return self.loop.time() - start

    def __repr__(self) -> str:
        return (
            f"{len(set(self.got))} delivered by {len(self.requests)} requests, {len(self.dead)} dead,"
            f" {len({n for n, _ in self.retried})} in the retry topic, at most {max(self.tries.values(), default=0)}"
            f" tries, {'open' if self.sink._breaker.is_open else 'closed'} at {self.loop.time():.0f} s"
        )


def _with_items(contract: Contract, items: int) -> Contract:
    return replace(contract, limits=replace(contract.limits, items=items))


async def _nothing(*_: Any) -> None:
    return
