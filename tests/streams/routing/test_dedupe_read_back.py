"""The windows of messageIds follow a router's partitions."""

import orjson
import pytest

from streams.kafka.acks import PendingAcks
from streams.kafka.producer import Producer
from streams.kafka.settings import Broker
from streams.records.event import event_headers
from streams.routing.dedupe import Windows
from streams.topics import Topics

pytestmark = [pytest.mark.anyio, pytest.mark.kafka]


async def send(broker: Broker, topics: Topics, message_ids: list[str]) -> None:
    """One event per messageId, into partition 0."""
    producer = Producer(broker, client_id="send")
    await producer.start()
    acks = PendingAcks()
    for message_id in message_ids:
        value = orjson.dumps({"type": "page", "userId": "u", "messageId": message_id})
        producer.append(topics.events, 0, acks, key=b"u", value=value, headers=event_headers("web"))
    await acks.confirmed(60)
    await producer.stop()


async def test_a_window_is_read_back_from_what_is_before_the_first_offset(broker: Broker, topics: Topics):
    """Of a partition that comes, exactly the last events before its first record are known; when it goes, none."""
    await send(broker, topics, [f"m{n}" for n in range(10)])
    tp, other = (topics.events, 0), (topics.events, 1)
    windows = Windows(broker, 4, "read-back", topics)
    window = await windows.of(tp, 8)
    assert [window.repeats("web", f"m{n}", 8) for n in (4, 5, 6, 7)] == [True] * 4
    assert not window.repeats("web", "m8", 8)
    window = await Windows(broker, 4, "read-back", topics).of(tp, 8)
    assert not window.repeats("web", "m3", 8)
    kept = await windows.of(other, 0)
    windows.drop([tp, (topics.events, 2)])
    assert await windows.of(other, 0) is kept
    window = await windows.of(tp, 10)
    assert [window.repeats("web", f"m{n}", 10) for n in (8, 9)] == [True] * 2
    assert await windows.of(tp, 10) is window
