import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.kafka.acks import PendingAcks
from streams.kafka.admin import create_topics
from streams.kafka.producer import Producer
from streams.kafka.settings import Broker, BrokerError
from streams.records.size import RecordTooLargeError
from streams.topics import Topics
from tests.support import real_kafka
from tests.support.ports import free_port
from tests.support.reading import read, until

pytestmark = [pytest.mark.anyio, pytest.mark.kafka]


async def test_records_arrive_in_order_and_share_batches(broker: Broker, topics: Topics):
    """Records of many callers fill the same batches, and each partition keeps the order of appending."""
    producer = Producer(broker, client_id="test")
    await producer.start()
    pending = [PendingAcks() for _ in range(100)]
    for number in range(2000):
        producer.append(topics.events, number % 3, pending[number % 100], key=b"k", value=b"%d" % number)
    for acks in pending:
        await acks.confirmed(120)
    await producer.stop()
    records = await read(broker, topics.events)
    for partition in range(3):
        values = [int(record.value) for record in records if record.partition == partition]
        assert values == list(range(partition, 2000, 3))


async def test_a_record_over_the_limit_is_refused_before_it_is_appended(broker: Broker, topics: Topics):
    """The neighbours of a record that is too large are confirmed, and it is not among them."""
    producer = Producer(broker, client_id="test", record_bytes=10_000)
    await producer.start()
    acks = PendingAcks()
    producer.append(topics.events, 0, acks, key=None, value=b"before")
    with pytest.raises(RecordTooLargeError):
        producer.append(topics.events, 0, acks, key=None, value=b"x" * 10_000)
    producer.append(topics.events, 0, acks, key=None, value=b"after")
    await acks.confirmed(120)
    await producer.stop()
    assert [record.value for record in await read(broker, topics.events)] == [b"before", b"after"]


async def test_a_record_larger_than_a_batch_gets_one_of_its_own(broker: Broker, topics: Topics):
    """A record may be larger than a batch's target size."""
    producer = Producer(broker, client_id="test", batch_bytes=1000)
    await producer.start()
    acks = PendingAcks()
    for value in (b"a", b"b" * 50_000, b"c"):
        producer.append(topics.events, 0, acks, key=None, value=value)
    await acks.confirmed(120)
    await producer.stop()
    assert [len(record.value) for record in await read(broker, topics.events)] == [1, 50_000, 1]


async def test_an_unknown_partition_fails_its_records_and_says_so(broker: Broker, topics: Topics):
    """A batch that cannot be sent fails its waiters and is reported; nothing is silently dropped."""
    failures: list[BaseException] = []
    producer = Producer(broker, client_id="test", on_failure=failures.append)
    await producer.start()
    acks = PendingAcks()
    producer.append(topics.events, 99, acks, key=None, value=b"x")
    with pytest.raises(BrokerError):
        await acks.confirmed(120)
    assert failures
    assert producer.unconfirmed == 0
    await producer.stop()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[real_kafka.KafkaNode]:
    """A Kafka of the test's own, which it may kill."""
    with real_kafka.running(tmp_path / "kafka") as running:
        yield running


@pytest.mark.fault
async def test_records_wait_for_a_broker_that_is_away(node: real_kafka.KafkaNode):
    """A broker that is killed and restarted gets the records appended meanwhile, once and in order."""
    broker, topics = Broker(bootstrap=node.bootstrap), Topics(partitions=3)
    await asyncio.to_thread(create_topics, broker, topics.declared([]), replication=1, timeout=60)
    producer = Producer(broker, client_id="test")
    await producer.start()
    first = PendingAcks()
    producer.append(topics.events, 0, first, key=None, value=b"0")
    await first.confirmed(120)
    node.kill()
    later = PendingAcks()
    for number in range(1, 500):
        producer.append(topics.events, 0, later, key=None, value=b"%d" % number)
    with pytest.raises(TimeoutError):
        await later.confirmed(2)
    node.start()
    await until(lambda: producer.unconfirmed == 0, 120)
    await producer.stop()
    assert [int(record.value) for record in await read(broker, topics.events)] == list(range(500))


async def test_a_broker_that_does_not_answer_is_one_clear_error():
    """Starting against nobody says who does not answer."""
    port = free_port()
    producer = Producer(Broker(bootstrap=f"127.0.0.1:{port}"), client_id="test")
    with pytest.raises(BrokerError, match=f"127.0.0.1:{port} does not answer"):
        await producer.start()
