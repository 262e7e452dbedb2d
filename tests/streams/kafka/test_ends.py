"""The embedded broker reports ends that are too low; no reader loses the rest of the last batch."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka import TopicPartition as Part
from kafka import TopicPartition

from deploy.cli.options import load
from deploy.dryrun.recorded_events import open_recorded
from deploy.replay.parked import Events
from streams.kafka.admin import create_topics
from streams.kafka.client import complete_ends, open_consumer, read_to_end
from streams.kafka.settings import Broker
from streams.ledger.ingester import Ingester
from streams.ledger.kafka_audit import KafkaAuditor
from streams.ledger.sqlite_store import SqliteStore
from streams.ledger.store import LedgerBatch
from streams.records.event import Origin
from streams.topics import Topics
from tests.support import tansu
from tests.support.reading import until

pytestmark = pytest.mark.anyio

TOPICS = Topics("ends", partitions=2)
MANY = 600
"""More records than one poll returns."""


async def write_batch(broker: Broker, topic: str, count: int) -> None:
    """Write records of partition 0 in one batch."""
    producer = AIOKafkaProducer(**broker.client(), enable_idempotence=False)
    await producer.start()
    batch = producer.create_batch()
    for _ in range(count):
        batch.append(key=b"u", value=b"{}", timestamp=None)
    batch.close()
    await (await producer.send_batch(batch, topic, partition=0))
    await producer.stop()


@pytest.fixture(scope="module")
def embedded() -> Iterator[Broker]:
    """An embedded broker with five records in one batch of the events, and many in one of the dead letters."""
    with tansu.running() as broker:
        create_topics(broker, TOPICS.declared([]), replication=1, timeout=60)
        asyncio.run(write_batch(broker, TOPICS.events, 5))
        asyncio.run(write_batch(broker, TOPICS.dead, MANY))
        yield broker


async def test_ends_are_behind_the_last_record(embedded: Broker):
    """With both client libraries, and for an empty partition."""
    with open_consumer(embedded) as consumer:
        ends = consumer.end_offsets([TopicPartition(TOPICS.events, number) for number in (0, 1)])
    assert complete_ends(embedded, ends) == {(TOPICS.events, 0): 5, (TOPICS.events, 1): 0}
    asynchronous = AIOKafkaConsumer(**embedded.consumer(), group_id=None)
    await asynchronous.start()
    ends = await asynchronous.end_offsets([Part(TOPICS.events, 0)])
    await asynchronous.stop()
    assert complete_ends(embedded, ends) == {(TOPICS.events, 0): 5}


def test_reading_to_the_end_gives_all_of_a_long_batch(embedded: Broker):
    """Also the records that the first poll did not return."""
    part = TopicPartition(TOPICS.dead, 0)
    with open_consumer(embedded) as consumer:
        consumer.assign([part])
        consumer.seek_to_beginning(part)
        assert sum(len(records) for records in read_to_end(consumer, embedded, part)) == MANY


def test_commands_find_the_events_of_the_last_batch(embedded: Broker, tmp_path: Path):
    """`record` and `diff` read all five, and a replay of rejected events finds the last."""
    broker = f"{{bootstrap: '{embedded.bootstrap}', idempotent: false}}"
    (tmp_path / "turnout.yaml").write_text(f"prefix: {TOPICS.prefix}\npartitions: 2\nbroker: {broker}\n")
    with open_recorded(load(tmp_path)) as recorded:
        assert len(recorded.newest(9, lambda _: True, lambda _: None)) == 5
        count, read = recorded.period(0)
        assert (count, len(list(read(lambda _: None)))) == (5, 5)
    assert list(Events(embedded).at([Origin(TOPICS.events, 0, 4)])) == [Origin(TOPICS.events, 0, 4)]


async def test_the_audit_finds_a_lost_event_of_the_last_batch(embedded: Broker):
    """The records in a gap of the books are read from Kafka."""
    async with KafkaAuditor(embedded, TOPICS, []) as kafka:
        assert await kafka.find_records((TOPICS.events, 0), [(2, 4)]) == [2, 3, 4]


async def test_a_ledger_goes_on_behind_the_last_batch(embedded: Broker, tmp_path: Path):
    """It does not take the topic for one that was created again."""
    store = SqliteStore(tmp_path, None, 7)
    store.write(LedgerBatch(offsets={(TOPICS.dead, 0): MANY}))
    ingester = Ingester(embedded, TOPICS, store)
    running = asyncio.create_task(ingester.run())
    await until(lambda: running.done() or ingester.committed_at > 0)
    ingester.stop()
    await running
    assert dict(store.offsets())[TOPICS.dead, 0] == MANY
    store.close()
