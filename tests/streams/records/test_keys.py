"""Every record that is made of an event has the event's key, so that Kafka keeps a user's records in order."""

from typing import Any

import pytest
from aiohttp import web

from streams.kafka.settings import Broker
from streams.routing.ruleset import Route
from streams.topics import Topics
from tests.streams.routing.test_router import Bench, event, route
from tests.support.delivering import Bench as DeliveryBench
from tests.support.delivering import Vendor, VendorSettings
from tests.support.reading import read
from tests.support.receiver import Got, receiving
from transforms import Failure

pytestmark = [pytest.mark.anyio, pytest.mark.kafka]

KEYS: list[bytes | None] = [b"user", "ключ".encode(), b"\xff\x00", b"", None]
"""What anybody may write beside an event; none of them is its userId."""


def keys(records: list[Any]) -> list[bytes | None]:
    return [record.key for record in records]


async def test_the_router_keeps_the_key(broker: Broker, topics: Topics):
    """In the forward topic, and in those of dead letters and rejected events, whatever the key is."""

    def fail(_: Any) -> list[tuple[str, Any]]:
        return [("fails", Failure("n", 1, 1, "two.yaml", "ValueError"))]

    failing = Route("two", topics.forward("two"), fail)
    bench = Bench(broker, topics, [route(topics, "one", "otherwise: {all: $}"), failing])
    for number, key in enumerate(KEYS):
        await bench.send(event(number), b"{", key=key)
    await bench.route()
    assert keys(await read(broker, topics.forward("one"))) == KEYS
    assert keys(await read(broker, topics.dead)) == KEYS
    assert keys(await read(broker, topics.rejected)) == KEYS


async def test_delivery_keeps_key_and_partition(bench: DeliveryBench):
    """Keys are kept in the retry topic after an attempt, and in the dead topic for invalid deliveries."""
    users = [f"u{number}" for number in range(4)]
    await bench.forward(*({"n": n, "user": user} for n, user in enumerate(users)), partition=2)
    await bench.forward({"n": 4, "user": "u4", "note": "longer than ten"}, partition=2)
    tried: set[str] = set()

    def answer(got: Got) -> web.Response:
        first = got.body[0]["user"] not in tried
        tried.add(got.body[0]["user"])
        return web.Response(status=500 if first else 404)

    async with receiving() as vendor:
        vendor.answer = answer
        settings = {"retry_in_place": 0, "retry_delay": 0.1, "breaker_failures": 1000, "items": 1}
        async with bench.running(Vendor(VendorSettings(url=vendor.url)), **settings):
            assert set((await bench.settled(5)).values()) == {"dead"}
    retried = await read(bench.broker, bench.topics.retry("one"))
    assert {(record.partition, record.key) for record in retried} == {(2, user.encode()) for user in users}
    dead = await read(bench.broker, bench.topics.dead)
    assert sorted((record.partition, record.key) for record in dead) == [(2, b"u%d" % n) for n in range(5)]
