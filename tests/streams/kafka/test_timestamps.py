"""The offsets that a broker finds for a time."""

import time

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as Part
from kafka import KafkaProducer, TopicPartition

from streams.kafka.admin import create_topics
from streams.kafka.client import open_consumer
from streams.kafka.settings import Broker
from streams.kafka.timestamps import known_offsets
from streams.topics import Topics
from tests.support import tansu

HOUR_MS = 3600 * 1000


def write_one(broker: Broker, topics: Topics) -> int:
    """Write a record, and return the time an hour before it, in milliseconds since 1970."""
    producer = KafkaProducer(**broker.client(), enable_idempotence=broker.idempotent)
    producer.send(topics.events, b"{}", partition=0).get(60)
    producer.close()
    return round(time.time() * 1000) - HOUR_MS


@pytest.mark.anyio
@pytest.mark.parametrize("embedded", [True, False])
async def test_a_time_after_the_last_record_has_no_offset(embedded: bool, request: pytest.FixtureRequest):
    """Both client libraries, with the embedded broker and with Kafka, which answer differently."""
    if not embedded:
        await compare(request.getfixturevalue("broker"), request.getfixturevalue("topics"))
        return
    with tansu.running() as broker:
        topics = Topics("timestamps", partitions=1)
        create_topics(broker, topics.declared([]), replication=1, timeout=60)
        await compare(broker, topics)


async def compare(broker: Broker, topics: Topics) -> None:
    before = write_one(broker, topics)
    later = before + 2 * HOUR_MS
    part = TopicPartition(topics.events, 0)
    with open_consumer(broker) as consumer:
        consumer.assign([part])
        assert known_offsets(consumer.offsets_for_times({part: before})) == {part: 0}
        assert known_offsets(consumer.offsets_for_times({part: later})) == {}
    asynchronous = AIOKafkaConsumer(**broker.consumer(), group_id=None)
    await asynchronous.start()
    try:
        other = Part(topics.events, 0)
        assert known_offsets(await asynchronous.offsets_for_times({other: before})) == {other: 0}
        assert known_offsets(await asynchronous.offsets_for_times({other: later})) == {}
    finally:
        await asynchronous.stop()
