"""The collector on a broker: what clients send is in the topic."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from uuid import uuid4

import orjson
import pytest
from segment.analytics.client import Client

from streams.kafka.admin import create_topics
from streams.kafka.producer import Producer
from streams.kafka.settings import Broker
from streams.records.rejected import Rejected
from streams.topics import Topics
from tests.streams.collector.helpers import KEY, exchange, head, send, serving
from tests.support import tansu
from tests.support.reading import read

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("way")]


@pytest.fixture(scope="module")
def embedded() -> Iterator[Broker]:
    """The embedded broker."""
    with tansu.running() as broker:
        yield broker


@pytest.fixture
def fresh(embedded: Broker) -> Topics:
    """Topics of the test's own on the embedded broker."""
    topics = Topics(prefix=f"t{uuid4().hex[:8]}", partitions=3)
    create_topics(embedded, topics.declared([]), replication=1, timeout=60)
    return topics


async def test_concurrent_batches_arrive_whole(embedded: Broker, fresh: Topics):
    """Of 40 batches at once every event is in its topic once, under its user's key, and each user's are in order."""
    batches = [
        [{"type": "track", "event": "E", "userId": f"u{user}", "n": n} for n in range(50)]
        + [{"type": "x", "user": user}]
        for user in range(40)
    ]
    async with serving(Producer(embedded, client_id="test"), fresh) as collector:
        answers = await asyncio.gather(*(send(collector, "/v1/batch", {"batch": batch}) for batch in batches))
        assert [len(answer.json["rejected"]) for answer in answers] == [1] * 40
        # The answer says that the records are there already.
        records = await read(embedded, fresh.events)
        rejected = await read(embedded, fresh.rejected)
    assert len(records) == 2000
    for user in range(40):
        mine = [record for record in records if record.key == b"u%d" % user]
        assert [orjson.loads(record.value)["n"] for record in mine] == list(range(50))
        assert {record.headers for record in mine} == {(("turnout-source", b"web"), ("turnout-version", b"1"))}
    kept = [Rejected.decode(record.key, record.value, record.headers) for record in rejected]
    assert {(one.reason, one.source, one.origin) for one in kept} == {("type", "web", None)}
    assert {one.value for one in kept} == {b'{"type":"x","user":%d}' % user for user in range(40)}


@pytest.mark.parametrize("gzip", [False, True], ids=["plain", "gzip"])
async def test_segments_python_client_sends_all_its_calls(gzip: bool, embedded: Broker, fresh: Topics):
    """Pointed at the collector by host and write key, its six calls arrive as they were made, and none fails."""
    failures: list[object] = []
    async with serving(Producer(embedded, client_id="test"), fresh) as collector:
        host = "http://{}:{}".format(*collector.address)
        client = Client(KEY, host=host, gzip=gzip, on_error=lambda error, items: failures.append((error, items)))
        client.track("u1", "Signed Up", {"plan": "pro", "price": 9.5})
        client.page("u1", "Docs", "Intro", {"url": "https://example.com/"})
        client.screen("u1", "App", "Home")
        client.identify("u1", {"email": "a@example.com"})
        client.group("u1", "g1", {"name": "Example"})
        client.alias("a1", "u1")
        await asyncio.to_thread(client.shutdown)
    assert failures == []
    events = [orjson.loads(record.value) for record in await read(embedded, fresh.events)]
    assert [event["type"] for event in events] == ["track", "page", "screen", "identify", "group", "alias"]
    assert events[0]["properties"] == {"plan": "pro", "price": 9.5}
    assert all(event["sentAt"] and event["receivedAt"] and event["messageId"] for event in events)


async def test_a_broker_that_goes_away_makes_the_collector_unready(fresh: Topics):
    """While Kafka is away, events and /ready are answered 503."""
    event = {"type": "track", "event": "E", "userId": "u1"}
    async with AsyncExitStack() as stack:
        with tansu.running() as broker:
            create_topics(broker, fresh.declared([]), replication=1, timeout=60)
            producer = Producer(broker, client_id="test")
            collector = await stack.enter_async_context(serving(producer, fresh, confirm_timeout=1))
            assert (await send(collector, "/v1/batch", {"batch": [event]})).status == 200
            assert (await exchange(collector, head("GET", "/ready", {"host": "test"}))).status == 200
        answer = await send(collector, "/v1/batch", {"batch": [event]})
        assert (answer.status, answer.json["code"]) == (503, "unconfirmed")
        assert (await exchange(collector, head("GET", "/ready", {"host": "test"}))).status == 503
