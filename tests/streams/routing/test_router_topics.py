"""Sources that read external topics with their own partitioning."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import orjson
import pytest

from streams.kafka.acks import PendingAcks
from streams.kafka.admin import create_topics
from streams.kafka.producer import Producer
from streams.kafka.settings import Broker
from streams.records.delivery import DeliveryRecord
from streams.records.event import Origin, event_headers
from streams.records.outcomes import Outcomes
from streams.routing.router import make_router
from streams.routing.ruleset import CurrentRules, RuleSet
from streams.routing.settings import RouterSettings
from streams.sources.source import Source, Sources
from streams.topics import Topic, Topics
from streams.worker.pipeline import ConsumerPipeline
from tests.streams.routing.test_router import EVERYTHING, Bench, event, route
from tests.support.reading import committed, read, until

pytestmark = pytest.mark.anyio

PARTITIONS = 5


@pytest.fixture
def theirs(broker: Broker) -> str:
    """A topic of another system, with more partitions than ours."""
    name = f"shop.orders.{uuid4().hex[:8]}"
    create_topics(broker, [Topic(name, PARTITIONS, 86400)], replication=1, timeout=60)
    return name


@pytest.fixture
def bench(broker: Broker, topics: Topics, theirs: str) -> Bench:
    """A router that reads it for the source `orders`."""
    bench = Bench(broker, topics, [route(topics, "two", EVERYTHING)])
    sources = Sources([Source.of("web", ["key-of-web"]), Source.of("orders", [], topics=(theirs,))])
    bench.holder = CurrentRules(RuleSet("v1", sources, bench.holder.current.routes))
    return bench


async def produce(bench: Bench, topic: str, partition: int, *values: object, source: str | None = None) -> None:
    """Send records like another system: without Turnout's headers, or with a header that claims a source."""
    producer = Producer(bench.broker, client_id="theirs")
    await producer.start()
    acks = PendingAcks()
    headers = event_headers(source) if source else []
    for value in values:
        producer.append(topic, partition, acks, key=b"u", value=orjson.dumps(value), headers=headers)
    await acks.confirmed(120)
    await producer.stop()
    bench.sent += len(values)


async def test_a_topic_of_others_belongs_to_its_source(bench: Bench, theirs: str):
    """Whatever its records claim; partitions above ours are routed, and outcomes and commits name the topic."""
    await produce(bench, theirs, 4, event(0), event(1, writeKey="key-of-web"))
    await produce(bench, theirs, 4, event(2), source="web")
    await bench.send(event(0))
    async with bench.running():
        pass
    found = {delivery.origin: delivery for delivery in await bench.deliveries("two")}
    assert {origin: delivery.source for origin, delivery in found.items()} == {
        **{Origin(theirs, 4, offset): "orders" for offset in range(3)},
        Origin(bench.topics.events, 0, 0): "web",
    }
    outcomes = [Outcomes.decode(it.value) for it in await read(bench.broker, bench.topics.outcomes)]
    assert {(it.topic, it.partition) for it in outcomes} == {(theirs, 4), (bench.topics.events, 0)}
    partitions = {
        DeliveryRecord.decode(it.value).origin.topic: it.partition
        for it in await read(bench.broker, bench.topics.forward("two"))
    }
    assert partitions == {theirs: 4 % bench.topics.partitions, bench.topics.events: 0}
    assert (await committed(bench.broker, f"{bench.topics.prefix}.router", theirs, PARTITIONS))[4] == 3


async def test_repeats_and_bad_records_of_others_are_found(bench: Bench, theirs: str):
    """A messageId repeats, even across a restart; an invalid event is stored with its coordinates."""
    await produce(bench, theirs, 3, event(0), event(0), {"type": "x"})
    async with bench.running():
        pass
    await produce(bench, theirs, 3, event(0), event(1))
    async with bench.running():
        pass
    assert [delivery.id for delivery in await bench.deliveries("two")] == ["m0", "m1"]
    (rejected,) = await bench.rejected()
    assert (rejected.source, rejected.origin, rejected.reason) == ("orders", Origin(theirs, 3, 2), "type")


async def test_routers_share_topics_of_different_partitions(bench: Bench, theirs: str):
    """Two of them have every partition of both between them, each once, and both have some."""
    async with worker(bench) as one, worker(bench) as other:
        for partition in range(PARTITIONS):
            await produce(bench, theirs, partition, *(event(100 * partition + n) for n in range(20)))
        await bench.send(*(event(1000 + n) for n in range(20)))
        await until(lambda: done(one) + done(other) == bench.sent)
        assigned = [set(pipeline.app.consumer.assignment()) for pipeline in (one, other)]
    assert all(assigned)
    assert not assigned[0] & assigned[1]
    assert len(assigned[0] | assigned[1]) == PARTITIONS + bench.topics.partitions
    ids = [delivery.id for delivery in await bench.deliveries("two")]
    assert len(ids) == len(set(ids)) == bench.sent


async def test_a_router_that_does_not_know_a_topic_yet_gets_none_of_it(bench: Bench, theirs: str):
    """While new sources reach one router after the other, the topic is read by those that they have reached."""
    before = CurrentRules(RuleSet("v0", Sources([Source.of("web", ["key-of-web"])]), bench.holder.current.routes))
    async with worker(bench, before) as late, worker(bench) as early:
        await produce(bench, theirs, 4, event(0))
        await bench.send(event(1))
        await until(lambda: done(late) + done(early) == bench.sent)
        assert all(tp.topic != theirs for tp in late.app.consumer.assignment())
        assert late.app.consumer.assignment()
    assert not await bench.rejected()
    assert {delivery.source for delivery in await bench.deliveries("two")} == {"orders", "web"}


@asynccontextmanager
async def worker(bench: Bench, holder: CurrentRules | None = None) -> AsyncIterator[ConsumerPipeline]:
    """One of several routers, by the bench's rules or others."""
    producer = Producer(bench.broker, client_id="router")
    await producer.start()
    pipeline = make_router(
        holder or bench.holder,
        bench.topics,
        bench.broker,
        producer,
        RouterSettings(),
        bench.suppressed,
        fail=bench.failed.append,
        grace=5,
    )
    await pipeline.app.start()
    try:
        yield pipeline
    finally:
        await pipeline.app.stop()
        await pipeline.stop_processor()
        await producer.stop()


def done(pipeline: ConsumerPipeline) -> int:
    """How many records a router has finished."""
    return sum(pipeline.progress.committable(tp) or 0 for tp in pipeline.progress.partitions())
