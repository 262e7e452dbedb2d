"""Every record of a partition is worked on, whatever interrupts the fetching of it; against a real Kafka."""

import asyncio
import inspect
import struct
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager

import aiokafka.consumer.fetcher
import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.codec import gzip_encode
from aiokafka.consumer.subscription_state import Assignment
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from kafka.admin import KafkaAdminClient
from prometheus_client import REGISTRY

from streams.kafka.admin import create_topics
from streams.kafka.consumer_thread import ConsumerThread, FetchedBytes, PartitionRecords, RangedFetchResult
from streams.kafka.offsets import DisorderError, OffsetTracker, RecordBatch
from streams.kafka.settings import Broker
from streams.kafka.transport import Consumer, PositionError
from streams.records.delivery import DeliveryRecord, Retried
from streams.records.event import Origin, event_headers
from streams.topics import Topics
from streams.worker.lag import find_lag
from streams.worker.pipeline import ConsumerPipeline, Processor, make_pipeline
from tests.streams.routing.test_router import Bench as RouterBench
from tests.streams.routing.test_router import event, route
from tests.support.delivering import Bench, Vendor, VendorSettings
from tests.support.reading import committed, until
from tests.support.receiver import receiving

pytestmark = [pytest.mark.anyio, pytest.mark.kafka]


@asynccontextmanager
async def producing(broker: Broker, **options: str) -> AsyncIterator[AIOKafkaProducer]:
    async with AIOKafkaProducer(**broker.client(), acks="all", **options) as producer:
        yield producer


async def fill(broker: Broker, topic: str, count: int, partitions: int = 3) -> None:
    """Write `count` records to each partition."""
    async with producing(broker) as producer:
        for number in range(count):
            for partition in range(partitions):
                await producer.send(topic, b"%d" % number + b" " * 300, partition=partition)


class Group:
    """Workers of one consumer group, and the offsets that they worked on."""

    def __init__(self, broker: Broker, topics: Topics) -> None:
        self.broker, self.topic, self.name = broker, topics.events, f"{topics.prefix}.group"
        self.worked: defaultdict[int, set[int]] = defaultdict(set)
        self.failed: list[str] = []
        self.open = asyncio.Event()
        self.open.set()
        self.waiting: list[RecordBatch] = []
        self.after_run: Callable[[ConsumerPipeline, RecordBatch], None] = lambda _pipeline, _run: None

    @asynccontextmanager
    async def member(self) -> AsyncIterator[ConsumerPipeline]:
        async def work(run: RecordBatch) -> None:
            if self.open.is_set():
                await asyncio.sleep(0)
                self.finish(run)
            else:
                self.waiting.append(run)
            self.after_run(pipeline, run)

        async def settle(_: float) -> None:
            """Leave unfinished runs as they are, as if the time for a rebalance were over."""

        pipeline = make_pipeline(
            "member", [self.topic], lambda _: Processor(work, settle=settle), self.broker,
            fail=self.failed.append, group=self.name, commit_interval=0.1, grace=5,
        )  # fmt: skip
        await pipeline.app.start()
        try:
            yield pipeline
        finally:
            await pipeline.app.stop()

    def finish(self, run: RecordBatch) -> None:
        self.worked[run.tp[1]].update(record.offset for record in run.records)
        run.finish()

    def go_on(self) -> None:
        """Finish the runs that were held, as far as their partitions are still here, and hold no more."""
        self.open.set()
        for run in self.waiting:
            if not run.dropped:
                self.finish(run)

    async def works_on_all(self, count: int, partitions: int = 3) -> None:
        """Wait until every partition has been read to its end, then check that nothing was left out."""
        await until(lambda: all(count - 1 in self.worked[partition] for partition in range(partitions)), 90)
        await until(lambda: all(len(self.worked[partition]) == count for partition in range(partitions)), 5)
        assert not self.failed


@pytest.mark.parametrize("reset", [False, True], ids=["new group", "group reset to the earliest offset"])
async def test_members_that_join_before_the_first_commit(
    broker: Broker, topics: Topics, monkeypatch: pytest.MonkeyPatch, *, reset: bool
):
    """Records fetched while three members join, and Kafka is slow to tell the offsets, are all worked on."""
    await fill(broker, topics.events, 200)
    group = Group(broker, topics)
    if reset:
        async with AIOKafkaConsumer(**broker.client(), group_id=group.name, enable_auto_commit=False) as consumer:
            parts = [TopicPartition(topics.events, partition) for partition in range(3)]
            consumer.assign(parts)
            await consumer.commit({part: OffsetAndMetadata(0, "") for part in parts})
    seek = Consumer.perform_seek

    async def slow_seek(self: Consumer) -> None:
        await asyncio.sleep(0.8)
        await seek(self)

    monkeypatch.setattr(Consumer, "perform_seek", slow_seek)
    group.open.clear()
    async with AsyncExitStack() as members:
        pipelines: list[ConsumerPipeline] = []
        for pause in (0.2, 1.0, 0.5):
            pipelines.append(await members.enter_async_context(group.member()))
            await asyncio.sleep(pause)
        await until(lambda: all(pipeline.app.consumer.assignment() for pipeline in pipelines), 60)
        await until(lambda: all(pipeline.app.consumer.flow_active for pipeline in pipelines), 60)
        group.go_on()
        await fill(broker, topics.events, 1)
        await group.works_on_all(201)


async def test_a_partition_that_is_paused_while_it_is_fetched(broker: Broker, topics: Topics):
    """Records of a fetch that ends while their partition is paused are processed after the pause."""
    await fill(broker, topics.events, 4000)
    group = Group(broker, topics)
    count = 0

    def rest(pipeline: ConsumerPipeline, run: RecordBatch) -> None:
        nonlocal count
        count += 1
        if count % 3 == 0:
            # At some moment of the next fetch.
            asyncio.get_running_loop().call_later(
                0.003 * (count % 7), pipeline.app.consumer.pause_for, TP(*run.tp), 0.1
            )

    group.after_run = rest
    async with group.member():
        await group.works_on_all(4000)


async def test_retries_with_staggered_due_times(bench: Bench):
    """Retries that fall due one after the other are all delivered, from every partition of the retry topic."""
    count = 3000
    async with receiving() as vendor:
        async with producing(bench.broker) as producer:
            now = time.time()
            for n in range(count):
                origin = Origin(bench.topics.events, n % 3, n)
                delivery = DeliveryRecord(f"m{n}", "r", "v1", "track", "E", "t", "t", "web", origin, {"n": n})
                headers = Retried(1, now + 1 + 4 * n / count, now, "failing").headers()
                await producer.send(bench.topics.retry("one"), delivery.encode(), partition=n % 3, headers=headers)
        async with bench.running(Vendor(VendorSettings(url=vendor.url)), retry_delay=60) as pipeline:
            await until(lambda: len({item["n"] for got in vendor.got for item in got.body}) == count, 90)
            await until(lambda: not pipeline.progress.held)


@pytest.fixture
def router(broker: Broker, topics: Topics) -> RouterBench:
    return RouterBench(broker, topics, [route(topics, "one", "otherwise: {event: $}")])


async def test_records_of_aborted_transactions_are_not_routed(router: RouterBench):
    """100 committed, 100 aborted and 100 plain records give 200 outcomes; the commit reaches the last stable offset.

    A record that repeats the messageId of an aborted one is not a duplicate, even after a restart.
    """
    topic, group = router.topics.events, f"{router.topics.prefix}.router"
    headers = event_headers("web")

    async def send(producer: AIOKafkaProducer, numbers: Iterable[int]) -> None:
        for n in numbers:
            await producer.send(topic, orjson.dumps(event(n)), key=b"u", partition=0, headers=headers)
        await producer.flush()

    async with producing(router.broker, transactional_id=router.topics.prefix) as transactional:
        for first in range(0, 100, 10):
            async with transactional.transaction():
                await send(transactional, range(first, first + 10))
            await transactional.begin_transaction()
            await send(transactional, range(100 + first, 110 + first))
            await transactional.abort_transaction()
        async with producing(router.broker) as plain:
            await send(plain, range(200, 250))
        async with router.running() as pipeline:
            await until(lambda: pipeline.progress.committable(TP(topic, 0)) == 270)
            async with producing(router.broker) as plain:
                await send(plain, range(250, 300))
            async with transactional.transaction():
                await send(transactional, [300])
            await transactional.begin_transaction()
            await send(transactional, [301])
            # The open transaction holds the last stable offset; after it is aborted only its marker is left.
            await until(lambda: pipeline.progress.committable(TP(topic, 0)) == 322)
            async with AIOKafkaConsumer(**router.broker.consumer()) as consumer:
                await until(lambda: pipeline.progress.begun == 0)
                assert sum((await find_lag(consumer, pipeline.done)).values()) == 0
                assert await pipeline.lag() == 0
            await transactional.abort_transaction()
            await until(lambda: pipeline.progress.committable(TP(topic, 0)) == 324)
        assert (await committed(router.broker, group, topic))[0] == 324
        async with router.running() as pipeline:
            async with producing(router.broker) as plain:
                await send(plain, range(100, 110))
            await until(lambda: pipeline.progress.committable(TP(topic, 0)) == 334)
    outcomes = await router.outcomes("one")
    assert len(outcomes) == 100 + 100 + 1 + 10
    assert set(outcomes.values()) == {"forwarded:otherwise"}


def admin(broker: Broker) -> KafkaAdminClient:
    return KafkaAdminClient(bootstrap_servers=broker.bootstrap)


async def test_records_removed_by_retention_are_reported(broker: Broker, topics: Topics):
    """Reading continues at the first record that Kafka still has, and lost records are counted once."""
    await fill(broker, topics.events, 100)
    group = Group(broker, topics)
    async with group.member():
        await group.works_on_all(100)
    await fill(broker, topics.events, 100)
    part = TopicPartition(topics.events, 0)
    await asyncio.to_thread(lambda: admin(broker).delete_records({part: 130}))
    before = REGISTRY.get_sample_value("turnout_lost_records_total", {"topic": topics.events}) or 0
    async with group.member():
        await until(lambda: all(199 in group.worked[partition] for partition in range(3)), 60)
        assert group.worked[0] == {*range(100), *range(130, 200)}
        assert group.worked[1] == group.worked[2] == set(range(200))
        await until_committed(broker, group.name, topics.events, {0: 200, 1: 200, 2: 200})
    lost = REGISTRY.get_sample_value("turnout_lost_records_total", {"topic": topics.events}) or 0
    assert lost - before == 30


async def test_a_topic_that_was_made_anew_is_no_silent_standstill(broker: Broker, topics: Topics):
    """The worker stops with an error that names the group, or reads the new topic from its beginning.

    Which of them depends on whether Kafka's client notices that the topic is missing before it exists again: then Kafka
    has deleted the group's offsets.
    """
    await fill(broker, topics.events, 100)
    group = Group(broker, topics)
    (declared,) = [topic for topic in topics.declared([]) if topic.name == topics.events]
    async with group.member() as pipeline:
        await group.works_on_all(100)
        group.worked.clear()
        await asyncio.to_thread(lambda: admin(broker).delete_topics([topics.events]))
        await asyncio.to_thread(create_topics, broker, [declared], 1, 60)
        await fill(broker, topics.events, 10)
        await until(lambda: pipeline.app._crashed.is_set() or sum(map(len, group.worked.values())) == 30)
        if pipeline.app._crashed.is_set():
            assert isinstance(pipeline.app.crash_reason, PositionError)
            assert group.name in str(pipeline.app.crash_reason)
        else:
            assert all(offsets == set(range(10)) for offsets in group.worked.values())


async def until_committed(broker: Broker, group: str, topic: str, offsets: dict[int, int | None]) -> None:
    async with asyncio.timeout(60):
        while await committed(broker, group, topic) != offsets:
            await asyncio.sleep(0.1)


def test_a_run_never_begins_before_the_end_of_the_last_one():
    """Opening a run at an offset that is open or finished already is an error."""

    class Record:
        key = value = b""

        def __init__(self, offset: int) -> None:
            self.offset = offset

    progress = OffsetTracker()
    progress.open(("t", 0), [Record(5), Record(6)], 9).finish()
    assert progress.committable(("t", 0)) == 9
    with pytest.raises(DisorderError):
        progress.open(("t", 0), [Record(8)])
    progress.skip(("t", 0), 12)
    assert progress.committable(("t", 0)) == 12


def batch_with_odd_header(first: int, compression: int, producer_id: int = -1) -> bytes:
    """Three records, of which the second has a header whose name is not UTF-8."""
    builder = DefaultRecordBatchBuilder(2, 0, False, producer_id, -1, -1, 1 << 20)
    for n in range(3):
        builder.append(n, 5, b"k", b"v%d" % n, [("zqzq", b"h"), ("ok", None)] if n == 1 else [])
    batch = bytearray(bytes(builder.build()).replace(b"zqzq", b"\xff\xfe\x80q"))
    body = batch[61:]
    if compression:
        body = gzip_encode(bytes(body))
    batch = batch[:61] + body
    struct.pack_into(">qi", batch, 0, first, len(batch) - 12)
    struct.pack_into(">h", batch, 21, compression)
    struct.pack_into(">I", batch, 17, calc_crc32c(memoryview(batch)[21:]))
    return bytes(batch)


@pytest.mark.parametrize("compression", [0, 1], ids=["plain", "gzip"])
@pytest.mark.parametrize("most", [None, 2, 4])
async def test_a_header_name_that_is_not_text_stops_no_reader(compression: int, most: int | None):
    """The record is read with U+FFFD in the name; none before or after it is lost or read twice."""
    data = batch_with_odd_header(10, 0) + batch_with_odd_header(13, compression) + batch_with_odd_header(16, 0)
    part = TopicPartition("t", 0)
    assignment = Assignment([part])
    state = assignment.state_value(part)
    state.seek(11)
    fetcher = aiokafka.consumer.fetcher
    records = fetcher.PartitionRecords(part, fetcher.MemoryRecords(data), [], 11, None, None, True, 1)
    result = fetcher.FetchResult(part, assignment=assignment, partition_records=records, backoff=0)
    found = []
    while result.has_more():
        fetched = result.getall(most)
        if fetched:
            assert fetched.start == (found[-1].offset + 1 if found else 11)
        found += fetched
    assert [record.offset for record in found] == list(range(11, 19))
    assert found[0].headers == (("\ufffd\ufffd\ufffdq", b"h"), ("ok", None))
    assert [record.value for record in found] == [b"v1", b"v2", *[b"v0", b"v1", b"v2"] * 2]
    assert state.position == 19


def test_the_fetcher_uses_what_this_relies_on():
    """Aiokafka makes its results by the replaced name, and drains them by `getall`."""
    fetcher = aiokafka.consumer.fetcher
    assert fetcher.FetchResult is RangedFetchResult
    assert fetcher.PartitionRecords is PartitionRecords
    assert fetcher.MemoryRecords is FetchedBytes
    assert "PartitionRecords(" in inspect.getsource(fetcher.Fetcher._proc_fetch_request)
    assert "MemoryRecords(" in inspect.getsource(fetcher.Fetcher._proc_fetch_request)
    assert "FetchResult(" in inspect.getsource(fetcher.Fetcher._proc_fetch_request)
    assert "getall(max_records)" in inspect.getsource(fetcher.Fetcher.fetched_records)
    assert "isolation_level=self._isolation_level" in inspect.getsource(aiokafka.AIOKafkaConsumer.start)
    assert issubclass(ConsumerThread, driver.AIOKafkaConsumerThread)
