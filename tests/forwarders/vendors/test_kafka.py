"""The kafka forwarder on a real Kafka."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from forwarders.api.contract import (
    Delivered,
    Delivery,
    OffsetRange,
    PermanentFailure,
    Result,
    Retry,
)
from forwarders.vendors.kafka.forwarder import Kafka, KafkaSettings
from streams.kafka.settings import Broker
from streams.topics import Topics
from tests.support.ports import free_port

PLACE = OffsetRange("t", 0, 0, 0)
pytestmark = pytest.mark.kafka


def item(name: str, **payload: Any) -> Delivery:
    return Delivery(name, payload, "track", None, "2026-01-02T03:04:05Z")


async def write(settings: KafkaSettings, *batches: Sequence[Delivery]) -> list[Sequence[Result]]:
    forwarder = Kafka(settings)
    await forwarder.open()
    results = [await forwarder.write(batch, PLACE) for batch in batches]
    await forwarder.close()
    return results


async def read(broker: Broker, topic: str, partitions: int) -> list[Any]:
    consumer = AIOKafkaConsumer(bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    places = [TopicPartition(topic, number) for number in range(partitions)]
    consumer.assign(places)
    ends = await consumer.end_offsets(places)
    found: list[Any] = []
    while any([await consumer.position(place) < ends[place] for place in places]):
        for records in (await consumer.getmany(timeout_ms=200)).values():
            found += records
    await consumer.stop()
    return found


def test_records(broker: Broker, topics: Topics) -> None:
    """A payload is a record of JSON, its key the first field that is there, its id in a header; keys keep order."""
    topic = topics.forward("one")
    batch = [
        item("m-1", userId="u-1", n=1),
        item("m-2", userId=7, anonymousId="a"),
        item("m-3", anonymousId="a-1"),
        item("m-4", n={"é": None}),
        *(item(f"m-{n}", userId="u-1", n=n) for n in range(5, 30)),
    ]

    async def run() -> list[Any]:
        settings = KafkaSettings(bootstrap=broker.bootstrap, topic=topic)
        assert await write(settings, batch) == [[Delivered()] * len(batch)]
        return await read(broker, topic, topics.partitions)

    found = {dict(record.headers)["turnout-id"].decode(): record for record in asyncio.run(run())}
    assert len(found) == len(batch)
    assert [found[f"m-{n}"].key for n in range(1, 5)] == [b"u-1", b"7", b"a-1", None]
    assert found["m-4"].value == '{"n":{"é":null}}'.encode()
    ordered = sorted((record.partition, record.offset, name) for name, record in found.items() if record.key == b"u-1")
    assert [name for _, _, name in ordered] == ["m-1", *(f"m-{n}" for n in range(5, 30))]


def test_too_large(broker: Broker, topics: Topics) -> None:
    """A record that Kafka does not take is dead, the others of its batch are delivered."""
    settings = KafkaSettings(bootstrap=broker.bootstrap, topic=topics.forward("two"))
    batch = [item("m-1", n=1), item("m-2", text="x" * 2_000_000), item("m-3", n=3)]
    assert asyncio.run(write(settings, batch)) == [[Delivered(), PermanentFailure("too_large"), Delivered()]]


def test_nobody_there() -> None:
    """Brokers that do not answer cost no delivery."""
    settings = KafkaSettings(bootstrap=f"127.0.0.1:{free_port()}", topic="events")
    assert asyncio.run(write(settings, [item("m-1")], [item("m-1")])) == [[Retry()], [Retry()]]
