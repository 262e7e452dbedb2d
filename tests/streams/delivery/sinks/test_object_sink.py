"""Objects of storage: cut by the records alone, committed when written, waiting on disk until then."""

import asyncio
import errno
import os
import re
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarders.api.contract import (
    Category,
    Contract,
    Delivered,
    Delivery,
    Limits,
    ObjectForwarder,
    OffsetRange,
    Retry,
    Settings,
)
from streams.delivery.flow.settings import DeliverySettings
from streams.delivery.objects.buffer import ObjectBuffer, ObjectBuffers
from streams.delivery.objects.spool import Spool
from streams.delivery.objects.upload import ObjectUpload
from streams.delivery.outcomes.dead_letters import InternalFailure
from streams.delivery.outcomes.preflight import Preflight
from streams.delivery.sinks.object_encoder import ObjectEncoder
from streams.delivery.sinks.object_sink import ObjectSink
from streams.kafka.offsets import OffsetTracker
from streams.records.delivery import DeliveryRecord
from streams.records.event import Origin
from streams.records.outcomes import Outcomes
from streams.topics import Topics
from tests.support.delivering import Bench, VendorPayload
from tests.support.offline_delivery import FakeProducer
from tests.support.panics import panic
from tests.support.reading import committed, read, until

TP = ("forward", 0)
LATER = "2999-01-01T00:00:00Z"


@dataclass
class Record:
    offset: int
    timestamp: int | None = 0
    key: bytes | None = b"k"
    value: bytes | None = b"v"


def extents(objects: Sequence[ObjectBuffer]) -> list[tuple[int, int]]:
    return [(each.first, each.last) for each in objects]


def put_all(objects: ObjectBuffers, records: Sequence[Record]) -> list[ObjectBuffer]:
    """The objects that ended."""
    return [ended for record in records if (ended := objects.put(TP, record))]


@given(st.lists(st.tuples(st.none() | st.binary(), st.none() | st.binary(), st.integers(0, 2**60))))
def test_spool_gives_back_what_was_put_in(tmp_path_factory, kept):
    """Offsets, keys and values are read back in order; None and empty are distinguished."""
    spool = Spool(tmp_path_factory.getbasetemp())
    for key, value, offset in kept:
        spool.put(Record(offset, key=key, value=value))
    assert [(key, value, offset) for offset, key, value in spool.records()] == kept


def test_spool_has_no_name(tmp_path: Path):
    """Nothing of it is left in the folder for another process to find, whatever happens to this one."""
    spool = Spool(tmp_path)
    spool.put(Record(1))
    assert list(tmp_path.iterdir()) == []


RECORDS = st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 60)), min_size=1, max_size=60).map(
    lambda made: [Record(7 + n, time, value=b"x" * size) for n, (time, size) in enumerate(made)]
)


@given(RECORDS, st.data())
def test_cuts_are_the_same_from_whichever_commit_they_begin(tmp_path_factory, records, data):
    """After a restart from the offsets committed after any object, the remaining objects are identical."""

    def cut(offset: int, time: float) -> Hashable:
        return offset // 10, int(time)

    folder = tmp_path_factory.getbasetemp()
    objects = ObjectBuffers(cut, 300, folder)
    ended = put_all(objects, records)
    open_one = objects.committable(TP)
    whole = extents(ended)
    if ended:
        written = data.draw(st.integers(0, len(ended)))
        for each in ended[:written]:
            for index in range(each.first, each.last + 1):
                each.finish_record(index)
        open_one = objects.committable(TP)
        assert open_one == (ended[written].first if written < len(ended) else ended[-1].last + 1)
        again = ObjectBuffers(cut, 300, folder)
        assert extents(put_all(again, [record for record in records if record.offset >= open_one])) == whole[written:]
        again.drop([TP])
    objects.drop([TP])


def test_earlier_times_end_no_object(tmp_path: Path):
    """A record a little earlier than the one before, as from another router, makes no small object at the border."""
    objects = ObjectBuffers(lambda _, time: time // 10, 1000, tmp_path)
    times = [8000, 9999, 10001, 9998, 10002, 19999, 20000]
    ended = put_all(objects, [Record(n, time) for n, time in enumerate(times)])
    assert extents(ended) == [(0, 1), (2, 5)]


def test_objects_end_by_size(tmp_path: Path):
    """An object ends before it would hold more bytes than it may; a record larger than that is one alone."""
    objects = ObjectBuffers(lambda *_: 0, 100, tmp_path)
    sizes = [49, 49, 1, 500, 1]
    assert extents(put_all(objects, [Record(n, value=b"x" * size) for n, size in enumerate(sizes)])) == [
        (0, 1), (2, 2), (3, 3)
    ]  # fmt: skip


def test_commit_waits_for_the_whole_of_the_first_object(tmp_path: Path):
    """Part of an object, and objects behind one that is not finished, move no commit."""
    objects = ObjectBuffers(lambda offset, _: offset // 2, 1000, tmp_path)
    first, second = put_all(objects, [Record(n) for n in range(5)])
    second.finish_record(0)
    second.finish_record(1)
    first.finish_record(1)
    assert objects.committable(TP) == 0
    first.finish_record(0)
    assert objects.committable(TP) == 4


class StoreSettings(Settings):
    records: int = 10


class Store(ObjectForwarder[StoreSettings]):
    """Keeps each object under its offsets."""

    contract = Contract(
        "store", "Store", "https://example.com", Category.STORAGE, StoreSettings, VendorPayload, Limits(100, 10**8)
    )

    def __init__(self, settings: StoreSettings) -> None:
        super().__init__(settings)
        self.objects: dict[tuple[int, int, int], list[int]] = {}
        self.answers: list[Retry] = []
        self.allows = asyncio.Event()
        self.allows.set()
        self.writing = 0

    def rotation_key(self, offset: int, time: float) -> Hashable:  # noqa: ARG002
        return offset // self.settings.records

    def encode(self, items: Iterable[Delivery]) -> bytes:
        return orjson.dumps([item.payload["n"] for item in items])

    async def put(self, content: bytes, offsets: OffsetRange) -> Delivered | Retry:
        self.writing += 1
        await self.allows.wait()
        self.writing -= 1
        if self.answers:
            return self.answers.pop(0)
        self.objects[offsets.partition, offsets.first, offsets.last] = orjson.loads(content)
        return Delivered()


async def committed_to(bench: Bench, offset: int, partition: int = 0) -> None:
    """Wait until the group has committed this offset."""
    async with asyncio.timeout(120):
        while (await committed(bench.broker, bench.group, bench.topics.forward("one")))[partition] != offset:
            await asyncio.sleep(0.05)


@pytest.mark.anyio
async def test_objects_end_by_their_records_and_not_by_linger_or_items(bench: Bench, tmp_path: Path):
    """Whole objects are written however the records arrive; records after the last cut wait uncommitted."""
    store = Store(StoreSettings())
    async with bench.running(store, linger=0, items=3, spool=tmp_path / "spool"):
        for begin in range(0, 25, 5):
            await bench.forward(*({"n": n} for n in range(begin, begin + 5)))
        await bench.settled(20)
        await committed_to(bench, 20)
    assert store.objects == {(0, 0, 9): list(range(10)), (0, 10, 19): list(range(10, 20))}
    async with bench.running(store, spool=tmp_path / "spool"):
        await bench.forward(*({"n": n} for n in range(25, 31)))
        await bench.settled(30)
        await committed_to(bench, 30)
    assert store.objects[0, 20, 29] == list(range(20, 30))


@pytest.mark.anyio
async def test_what_is_no_row_leaves_the_object_its_name(bench: Bench, tmp_path: Path):
    """Dead and expired deliveries, even at an object's ends, are settled with it; the name covers all its records."""
    store = Store(StoreSettings())
    async with bench.running(store, max_age=60, spool=tmp_path):
        await bench.forward({"n": 0}, {"n": 1, "note": "longer than ten"}, time="2020-01-01T00:00:00Z")
        await bench.forward({"n": 2, "note": "longer than ten"}, *({"n": n} for n in range(3, 11)), time=LATER)
        outcomes = await bench.settled(10)
        await committed_to(bench, 10)
    assert store.objects == {(0, 0, 9): list(range(3, 10))}
    assert outcomes == {0: "expired", 1: "expired", 2: "dead", **dict.fromkeys(range(3, 10), "delivered")}
    assert [letter.reason for letter in await bench.dead()] == ["payload"]


@pytest.mark.anyio
async def test_an_invalid_optional_value_is_not_in_the_object(bench: Bench, tmp_path: Path):
    """The row is written without it, and the event has a note."""

    class Coloured(Store):
        def encode(self, items: Iterable[Delivery]) -> bytes:
            return orjson.dumps([item.payload.get("colour") for item in items])

    store = Coloured(StoreSettings())
    async with bench.running(store, spool=tmp_path):
        await bench.forward({"n": 0, "colour": "longer than ten"}, *({"n": n, "colour": "c"} for n in range(1, 11)))
        await bench.settled(10)
    assert store.objects == {(0, 0, 9): [None, *"c" * 9]}
    notes = [
        named
        for record in await read(bench.broker, bench.topics.outcomes)
        for named in Outcomes.decode(record.value).named
    ]
    assert notes == [("", "", "noted", 0, "left_out", "one: colour: String should have at most 10 characters")]


@pytest.mark.anyio
async def test_an_object_of_nothing_but_expired_deliveries_is_passed(bench: Bench, tmp_path: Path):
    """Nothing is written, and the partition continues."""
    store = Store(StoreSettings())
    async with bench.running(store, max_age=60, spool=tmp_path):
        await bench.forward(*({"n": n} for n in range(10)), time="2020-01-01T00:00:00Z")
        await bench.forward(*({"n": n} for n in range(10, 21)), time=LATER)
        await committed_to(bench, 20)
    assert list(store.objects) == [(0, 10, 19)]


@pytest.mark.anyio
async def test_a_store_that_fails_gets_the_same_object_again(bench: Bench, tmp_path: Path):
    """Tried again in place, whole and under the same name; nothing goes to the retry topic."""
    store = Store(StoreSettings())
    store.answers = [Retry(), Retry()]
    async with bench.running(store, spool=tmp_path, retry_in_place=0):
        await bench.forward(*({"n": n} for n in range(11)))
        await bench.settled(10)
    assert store.objects == {(0, 0, 9): list(range(10))}


@pytest.mark.anyio
async def test_what_waits_counts_against_no_budget_until_objects_pile_up(bench: Bench, tmp_path: Path):
    """Far more than the budget waits on disk for its object; a store that hangs stops the fetching behind a few."""
    store = Store(StoreSettings(records=4000))
    padding = "x" * 1000
    async with bench.running(store, spool=tmp_path, fetched_bytes=1024 * 1024) as pipeline:
        for begin in range(0, 3900, 300):
            await bench.forward(*({"n": n, "user": padding} for n in range(begin, begin + 300)))
        group, topic = bench.group, bench.topics.forward("one")
        await until(lambda: pipeline.progress.committable((topic, 0)) == 3900)
        assert pipeline.progress.held == 0
        assert (await committed(bench.broker, group, topic))[0] in (None, 0)
    store.settings = StoreSettings(records=100)
    store.allows.clear()
    async with bench.running(store, spool=tmp_path, fetched_bytes=1024 * 1024) as pipeline:
        await until(lambda: store.writing == 2)
        await until(lambda: pipeline.progress.held > 1024 * 1024)
        assert pipeline.waits()
        assert (pipeline.progress.committable((topic, 0)) or 0) <= 1000
        store.allows.set()
        await bench.settled(3800)


@pytest.mark.anyio
async def test_an_open_object_is_no_stall(bench: Bench, tmp_path: Path):
    """Records that wait for their object do not count as lag, so the watchdog does not end the worker."""
    async with bench.running(Store(StoreSettings()), spool=tmp_path) as pipeline:
        await bench.forward(*({"n": n} for n in range(5)))
        await until(lambda: pipeline.progress.committable((bench.topics.forward("one"), 0)) == 5)
        assert await pipeline.lag() == 0
        assert not pipeline.waits()


@pytest.mark.anyio
async def test_no_object_is_written_after_its_partition_is_revoked(tmp_path: Path):
    """An object that waits for the rate, or for the end of a pause, is left to the next owner of the partition."""
    store = Store(StoreSettings(records=2))
    settings = DeliverySettings(requests_per_second=0.01, spool=tmp_path)
    failed: list[str] = []
    sink = ObjectSink("one", store, settings, Topics(), FakeProducer(), fail=failed.append, clock=time.time)  # type: ignore[arg-type]
    await sink.start()
    progress = OffsetTracker()
    value = DeliveryRecord(
        "m", "r", "v1", "track", "E", LATER, LATER, "web", Origin("events", 0, 0), {"n": 0}
    ).encode()  # fmt: skip
    run = progress.open(TP, [Record(n, value=value) for n in range(7)])
    run.begin()
    await sink.work(run)
    await until(lambda: len(store.objects) == 1)
    await sink.settle(60)
    progress.drop([TP])
    sink.resume([TP])
    await asyncio.sleep(0)
    await sink.stop()
    assert list(store.objects) == [(0, 0, 1)]
    assert not failed


@pytest.mark.anyio
async def test_shadow_writes_nothing_and_waits_for_nothing(bench: Bench, tmp_path: Path):
    """In shadow mode each delivery is settled when it comes."""
    store = Store(StoreSettings())
    async with bench.running(store, shadow=True, spool=tmp_path):
        await bench.forward(*({"n": n} for n in range(5)))
        assert await bench.settled(5) == dict.fromkeys(range(5), "filtered")
    assert store.objects == {}


@pytest.mark.anyio
async def test_a_stop_while_the_store_hangs_leaves_the_object_to_the_next(bench: Bench, tmp_path: Path):
    """The worker leaves in its grace, nothing of the object is committed, and the next one writes it."""
    store = Store(StoreSettings())
    store.allows.clear()
    async with bench.running(store, spool=tmp_path, grace=3):
        await bench.forward(*({"n": n} for n in range(95)))
        await until(lambda: store.writing == 2)
    store.allows.set()
    other = Store(StoreSettings())
    async with bench.running(other, spool=tmp_path):
        await bench.settled(90)
        await committed_to(bench, 90)
    assert other.objects == {(0, at, at + 9): list(range(at, at + 10)) for at in range(0, 90, 10)}


def test_spool_takes_a_record_again_that_the_disk_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A full disk neither loses nor duplicates data, even after a partial write."""
    spool = Spool(tmp_path)
    records = [Record(n, value=b"%d" % n * 50_000) for n in range(20)]
    pwrite, refusals = os.pwrite, 0

    def refuse(number: int, content: bytes, at: int) -> int:
        nonlocal refusals
        refusals += 1
        if refusals % 3:
            pwrite(number, content[: len(content) // 2], at)
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwrite(number, content, at)

    monkeypatch.setattr("os.pwrite", refuse)
    for record in records:
        while True:
            try:
                spool.put(record)
                break
            except OSError:
                continue
    assert refusals > 3
    assert [(it.offset, it.value) for it in spool.records()] == [(it.offset, it.value) for it in records]


def fail() -> None:
    raise TypeError("personal data")


class Picky(Store):
    """Cannot encode some rows, whatever is beside them."""

    def __init__(self, settings: StoreSettings, fail: Callable[[], None]) -> None:
        super().__init__(settings)
        self.fail = fail

    def encode(self, items: Iterable[Delivery]) -> bytes:
        found = list(items)
        if any(item.payload.get("note") == "odd" for item in found):
            self.fail()
        return b"\n".join(orjson.dumps(item.payload) for item in found)


@pytest.mark.parametrize(
    ("fail", "place"),
    [(fail, "TypeError at sinks/test_object_sink"), (panic, "PanicException at support/panics")],
    ids=["error", "panic"],
)
@pytest.mark.parametrize("odd", [{0}, {4}, {9}, {0, 1, 5}, set(range(10))])
def test_a_row_that_cannot_be_encoded_is_left_out_of_its_object(
    tmp_path: Path, odd: set[int], fail: Callable[[], None], place: str
):
    """It is a dead letter `internal` with type and place of the error; the others are in the object."""
    objects = ObjectBuffers(lambda _offset, _time: 0, 1_000_000, tmp_path)
    for n in range(10):
        payload = {"n": n, **({"note": "odd"} if n in odd else {})}
        origin = Origin("events", 0, n)
        value = DeliveryRecord(f"m{n}", "r", "v", "track", "E", LATER, LATER, "web", origin, payload).encode()
        objects.put(TP, Record(n, value=value))
    (ended,) = objects._unfinished[TP]
    forwarder = Picky(StoreSettings(), fail)
    packed = ObjectEncoder(forwarder, Preflight(forwarder, forwarder.limits, None), lambda: 0.0).encode(
        ObjectUpload(ended)
    )
    assert [orjson.loads(line)["n"] for line in packed.content.splitlines()] == [n for n in range(10) if n not in odd]
    assert {pending.delivery.origin.offset for pending, _ in packed.others} == odd
    for _, verdict in packed.others:
        assert isinstance(verdict, InternalFailure)
        assert re.fullmatch(rf"{place}\.py:\d+", verdict.detail)
    assert sum(map(len, packed.rows.values())) == 10 - len(odd)
    objects.drop([TP])


@pytest.mark.anyio
async def test_a_full_disk_is_waited_for(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A full disk is not a record's failure: the worker logs it, continues when there is room, and loses nothing."""
    store = Store(StoreSettings(records=4))
    put, refusals = Spool.put, 0

    def refuse(self: Spool, record: object) -> None:
        nonlocal refusals
        refusals += 1
        if refusals < 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        put(self, record)

    monkeypatch.setattr(Spool, "put", refuse)
    await bench.forward(*({"n": n} for n in range(9)))
    async with bench.running(store, spool=tmp_path):
        assert await bench.settled(8) == dict.fromkeys(range(8), "delivered")
    assert refusals > 5
