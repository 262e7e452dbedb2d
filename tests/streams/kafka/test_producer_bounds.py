"""A producer's bounds: accepted records, waiting callers, and leftovers when it stops."""

import asyncio

import pytest

from streams.kafka.acks import PendingAcks
from streams.kafka.producer import Producer
from streams.kafka.settings import Broker, BrokerError
from streams.records.format import MAX_RECORD_BYTES, Headers
from streams.records.size import HEADROOM, SHORT_HEADERS, RecordTooLargeError
from streams.topics import Topics
from tests.support.reading import read

pytestmark = [pytest.mark.anyio, pytest.mark.kafka]

LARGEST = MAX_RECORD_BYTES - 2 * HEADROOM


async def test_what_is_taken_at_the_limit_kafka_takes_too(broker: Broker, topics: Topics):
    """Key, value and headers count together: up to the limit they are confirmed, one byte more is refused at once."""
    plain = broker.model_copy(update={"compression": "none"})
    producer = Producer(plain, client_id="limits")
    await producer.start()
    acks = PendingAcks()
    headers: Headers = [("a", b"h" * 1000), ("b", b"h" * 500)]
    cost = sum(len(name) + len(value) + 8 for name, value in headers)
    taken: list[tuple[bytes | None, int, Headers]] = [
        (None, LARGEST, []),
        (b"k" * 1000, LARGEST - 1000, []),
        (b"k" * 1000, LARGEST - 1000 - cost + SHORT_HEADERS, headers),
    ]
    for key, size, some in taken:
        with pytest.raises(RecordTooLargeError):
            producer.append(topics.events, 0, acks, key=key, value=b"v" * (size + 1), headers=some)
        producer.append(topics.events, 0, acks, key=key, value=b"v" * size, headers=some)
    await acks.confirmed(60)
    await producer.stop()
    found = [(it.key, len(it.value), list(it.headers)) for it in await read(broker, topics.events)]
    assert found == taken


async def test_stopping_sends_what_waits_for_company(broker: Broker, topics: Topics):
    """A batch that lingers is sent and confirmed before the producer is gone."""
    producer = Producer(broker, client_id="stops", linger=600)
    await producer.start()
    acks = PendingAcks()
    for partition in range(3):
        producer.append(topics.events, partition, acks, key=None, value=b"%d" % partition)
    await producer.stop(60)
    await acks.confirmed(1)
    assert producer.unconfirmed == 0
    assert sorted(record.value for record in await read(broker, topics.events)) == [b"0", b"1", b"2"]


async def test_room_is_waited_for_until_records_are_confirmed(broker: Broker, topics: Topics):
    """At the bound of unconfirmed bytes a caller waits until a confirmation."""
    producer = Producer(broker, client_id="room", linger=600, bound=10_000)
    await producer.start()
    await asyncio.wait_for(producer.wait_for_room(), 60)
    producer.append(topics.events, 0, PendingAcks(), key=None, value=b"v" * 10_000)
    waiting = asyncio.create_task(producer.wait_for_room())
    done, _ = await asyncio.wait([waiting], timeout=0.05)
    assert not done
    await producer.stop(60)
    await asyncio.wait_for(waiting, 60)


async def test_pending_acks_wait_for_every_batch_and_keep_the_first_error():
    """Confirmed is confirmed of all; one batch that Kafka refused is an error, however many it took."""
    acks = PendingAcks()
    acks.hold()
    acks.hold()
    acks.release(None)
    with pytest.raises(TimeoutError):
        await acks.confirmed(0.01)
    refused = PendingAcks()
    refused.hold()
    refused.hold()
    refused.release(OSError("first"))
    refused.release(None)
    with pytest.raises(BrokerError, match="OSError"):
        await refused.confirmed(1)
    await PendingAcks().confirmed(1)


async def test_pending_acks_are_not_confirmed_before_their_last_batch():
    """Neither when earlier batches were confirmed before the last was appended, nor while one is on its way."""
    acks = PendingAcks()
    acks.hold()
    acks.release(None)
    acks.hold()
    acks.hold()
    waiting = asyncio.create_task(acks.confirmed(60))
    await asyncio.sleep(0)
    acks.release(None)
    done, _ = await asyncio.wait([waiting], timeout=0.05)
    assert not done
    acks.release(OSError("last"))
    with pytest.raises(BrokerError, match="OSError"):
        await waiting
