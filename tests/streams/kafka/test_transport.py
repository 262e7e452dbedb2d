import asyncio
import inspect
from collections import Counter
from contextlib import asynccontextmanager

import aiokafka.conn
import pytest
from aiokafka.cluster import ClusterMetadata
from faust.assignor.partition_assignor import PartitionAssignor
from faust.transport.consumer import Consumer as FaustConsumer
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.transport.drivers.aiokafka import Consumer as DriverConsumer

from streams.kafka.acks import PendingAcks
from streams.kafka.aiokafka_patch import PatchedConnection
from streams.kafka.offsets import RecordBatch
from streams.kafka.producer import Producer
from streams.kafka.settings import Broker
from streams.topics import Topics
from streams.worker.pipeline import ConsumerPipeline, Processor, make_pipeline
from tests.support.reading import committed, until

pytestmark = [pytest.mark.anyio, pytest.mark.kafka]


async def fill(broker: Broker, topics: Topics, count: int, size: int = 10) -> None:
    producer = Producer(broker, client_id="fill")
    await producer.start()
    acks = PendingAcks()
    for number in range(count):
        producer.append(topics.events, number % 3, acks, key=None, value=b"%d" % number + b" " * size)
    await acks.confirmed(30)
    await producer.stop()


class Agent:
    """An agent whose work a test controls; keeps the batches that it received."""

    def __init__(self, broker: Broker, topics: Topics, *, group: str = "", budget: int = 16 << 20, grace: float = 8):
        self.runs: list[RecordBatch] = []
        self.seen: Counter[int] = Counter()
        self.failed: list[str] = []
        self.hold = asyncio.Event()
        self.hold.set()
        self.group = group or f"{topics.prefix}.agent"
        self.finishes = True
        self.pipeline: ConsumerPipeline = make_pipeline(
            "agent",
            [topics.events],
            lambda _: Processor(self.work),
            broker,
            fail=self.failed.append,
            group=self.group,
            commit_interval=0.2,
            grace=grace,
            budget=budget,
        )

    async def work(self, run: RecordBatch) -> None:
        self.runs.append(run)
        await self.hold.wait()
        self.seen.update(int(record.value) for record in run.records)
        if self.finishes:
            run.finish()

    @asynccontextmanager
    async def running(self):
        await self.pipeline.app.start()
        try:
            yield self
        finally:
            await self.pipeline.app.stop()


async def test_a_whole_fetch_is_one_event_and_is_committed_when_finished(broker: Broker, topics: Topics):
    """Thousands of records come as few runs, and the commit follows the finished ones, also at a stop."""
    await fill(broker, topics, 3000)
    async with Agent(broker, topics).running() as agent:
        await until(lambda: agent.seen.total() == 3000)
    assert len(agent.runs) <= 100
    assert await committed(broker, agent.group, topics.events) == {0: 1000, 1: 1000, 2: 1000}


async def test_an_unfinished_run_is_not_committed_past(broker: Broker, topics: Topics):
    """Of runs finished out of order nothing behind the open head is committed, and exactly the open ones come again."""
    await fill(broker, topics, 3000)
    agent = Agent(broker, topics, grace=3)
    agent.finishes = False
    async with agent.running():
        await until(lambda: agent.seen.total() == 3000)
        heads: dict[tuple[str, int], RecordBatch] = {}
        for run in agent.runs:
            if run is not heads.setdefault(run.tp, run):
                run.finish()
    for offset in (await committed(broker, agent.group, topics.events)).values():
        assert offset in (None, 0)
    unfinished = {int(record.value) for run in heads.values() for record in run.records}
    async with Agent(broker, topics, group=agent.group).running() as again:
        await until(lambda: len(again.seen) >= len(unfinished))
        await until(lambda: again.pipeline.progress.held == 0)
    assert again.seen == Counter(unfinished)
    assert await committed(broker, agent.group, topics.events) == {0: 1000, 1: 1000, 2: 1000}


async def test_what_an_agent_raises_is_neither_acknowledged_nor_lost(broker: Broker, topics: Topics):
    """An exception in the work ends the worker, and its records come again."""
    await fill(broker, topics, 30)
    agent = Agent(broker, topics, grace=3)

    async def work(run: RecordBatch) -> None:
        raise ValueError("no")

    agent.work = work  # type: ignore[method-assign]
    broken = make_pipeline(
        "agent", [topics.events], lambda _: Processor(work), broker,
        fail=agent.failed.append, group=agent.group, commit_interval=0.1, grace=3,
    )  # fmt: skip
    await broken.app.start()
    await until(lambda: bool(agent.failed))
    await broken.app.stop()
    assert "ValueError" in agent.failed[0]
    async with Agent(broker, topics, group=agent.group).running() as again:
        await until(lambda: len(again.seen) == 30)


async def test_a_second_worker_joins_an_idle_one(broker: Broker, topics: Topics):
    """A join to a worker that waits for records neither hangs nor repeats nor loses one, and both then work."""
    await fill(broker, topics, 300)
    first = Agent(broker, topics)
    second = Agent(broker, topics)
    async with first.running():
        await until(lambda: first.seen.total() == 300)
        async with second.running():
            await until(lambda: bool(second.pipeline.app.consumer.assignment()))
            await until(lambda: len(first.pipeline.app.consumer.assignment()) in (1, 2))
            await fill(broker, topics, 300)
            await until(lambda: (first.seen + second.seen).total() == 600)
        assert second.seen.total() > 0
        await fill(broker, topics, 300)
        await until(lambda: (first.seen + second.seen).total() == 900)
    assert set((first.seen + second.seen).values()) == {3}


async def test_a_join_while_runs_are_open_waits_for_them(broker: Broker, topics: Topics):
    """Begun runs finish before their partitions go, so that a join repeats nothing."""
    await fill(broker, topics, 300)
    first, second = Agent(broker, topics), Agent(broker, topics)
    first.hold.clear()
    async with first.running():
        await until(lambda: bool(first.runs))
        joined = asyncio.create_task(second.pipeline.app.start())
        await until(lambda: not first.pipeline.app.consumer.flow_active)
        first.hold.set()
        await joined
        await until(lambda: bool(second.pipeline.app.consumer.assignment()))
        await until(lambda: (first.seen + second.seen).total() >= 300)
        await second.pipeline.app.stop()
    assert set((first.seen + second.seen).values()) == {1}


async def test_a_hang_longer_than_the_session_keeps_the_partition(broker: Broker, topics: Topics):
    """Work that takes longer than Kafka's session time-out loses neither membership nor records."""
    await fill(broker, topics, 30)
    agent = Agent(broker, topics)
    agent.hold.clear()
    async with agent.running():
        await until(lambda: bool(agent.runs))
        await asyncio.sleep(broker.session_timeout + 2)
        agent.hold.set()
        await until(lambda: agent.seen.total() == 30)
        await fill(broker, topics, 30)
        await until(lambda: agent.seen.total() == 60)
    assert not agent.failed


async def test_a_hung_agent_holds_no_more_than_its_budget(broker: Broker, topics: Topics):
    """Fetching stops at the budget of bytes, and continues when a run finishes."""
    await fill(broker, topics, 6000, size=1000)
    agent = Agent(broker, topics, budget=1 << 20)
    agent.hold.clear()
    async with agent.running():
        await until(lambda: agent.pipeline.progress.held >= 1 << 20 and bool(agent.runs))
        largest = max(run.size for run in agent.runs)
        assert agent.pipeline.progress.held <= (1 << 20) + 3 * largest
        agent.hold.set()
        await until(lambda: agent.seen.total() == 6000)


def test_every_connection_to_kafka_is_a_mended_one():
    """Connections are made by the name in aiokafka.conn that is replaced."""
    assert aiokafka.conn.AIOKafkaConnection is PatchedConnection
    assert "AIOKafkaConnection(" in inspect.getsource(aiokafka.conn.create_conn)


def test_what_faust_calls_is_what_the_transport_overrides():
    """The private names that the transport overrides are still used by Faust's commit and rebalance."""
    callers = {
        "_filter_tps_with_pending_acks": FaustConsumer.force_commit,
        "_new_offset": FaustConsumer._filter_committable_offsets,
        "wait_empty": FaustConsumer.on_stop,
        "getmany": FaustConsumer._drain_messages,
        "_getmany": FaustConsumer._wait_next_records,
        "_max_poll_records": AIOKafkaConsumerThread.getmany,
    }
    for name, caller in callers.items():
        assert name in inspect.getsource(caller)
        assert name == "_max_poll_records" or hasattr(DriverConsumer, name)


async def test_partitions_of_a_topic_that_kafka_did_not_list_are_assigned_soon(
    broker: Broker, topics: Topics, monkeypatch: pytest.MonkeyPatch
):
    """A node that has just started may not list a topic while partitions are assigned."""
    await fill(broker, topics, 3)
    find, assign = ClusterMetadata.partitions_for_topic, PartitionAssignor.assign
    looks = ["before", "after"]

    def assign_nothing(*arguments):
        found = assign(*arguments)
        looks.remove("before")
        monkeypatch.setattr(PartitionAssignor, "assign", assign)
        return found

    def find_late(cluster, topic):
        if not looks:
            return find(cluster, topic)
        if looks == ["after"]:
            looks.clear()  # the group's coordinator remembers what it has seen
        return None

    monkeypatch.setattr(PartitionAssignor, "assign", assign_nothing)
    monkeypatch.setattr(ClusterMetadata, "partitions_for_topic", find_late)
    async with Agent(broker, topics).running() as agent:
        await until(lambda: agent.seen.total() == 3, 60)
    assert not looks
