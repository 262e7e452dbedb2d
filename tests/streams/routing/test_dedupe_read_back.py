"""The windows of messageIds follow a router's partitions."""

import asyncio
from pathlib import Path

import orjson
import pytest

from streams.kafka.acks import PendingAcks
from streams.kafka.offsets import OffsetTracker
from streams.kafka.producer import Producer
from streams.kafka.settings import Broker
from streams.records.event import event_headers
from streams.routing.dedupe import Window, Windows
from streams.routing.ruleset import RuleSet
from streams.sources.source import Source, Sources
from streams.topics import Topics
from tests.support.in_process import TOPICS, Pipeline
from tests.support.local_producer import LocalRecord
from tests.support.reading import until

pytestmark = [pytest.mark.anyio, pytest.mark.kafka]


async def send(broker: Broker, topics: Topics, message_ids: list[str], partition: int = 0) -> None:
    """One event per messageId, into a partition."""
    producer = Producer(broker, client_id="send")
    await producer.start()
    acks = PendingAcks()
    for message_id in message_ids:
        value = orjson.dumps({"type": "page", "userId": "u", "messageId": message_id})
        producer.append(topics.events, partition, acks, key=b"u", value=value, headers=event_headers("web"))
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


async def test_the_windows_of_all_assigned_partitions_are_read_back_together(broker: Broker, topics: Topics):
    """Requesting the first partition's window also fills the others, up to the offset finished in each before."""
    for partition in range(3):
        await send(broker, topics, [f"p{partition}m{n}" for n in range(5)], partition)
    # In partition 1 offset 3 was finished although 0 to 2 were not.
    assigned = {(topics.events, 0): 5, (topics.events, 1): 4, (topics.events, 2): 0}
    windows = Windows(broker, 10, "read-back", topics, lambda: assigned)
    await windows.of((topics.events, 0), 5)
    await send(broker, topics, ["later"], 1)
    window = await windows.of((topics.events, 1), 6)
    assert [window.repeats("web", name, 6) for name in ("p1m2", "p1m3", "p1m4", "later")] == [True, True, False, False]
    assert not window.repeats("web", "p1m0", 0)
    assert not (await windows.of((topics.events, 2), 0)).repeats("web", "p2m0", 0)


async def test_a_partition_that_is_revoked_during_the_read_back_is_read_anew(broker: Broker, topics: Topics):
    """Another router may have routed events meanwhile, so its window is not kept."""
    await send(broker, topics, ["a"])
    tp, other = (topics.events, 0), (topics.events, 1)
    windows = Windows(broker, 10, "read-back", topics, lambda: {tp: 1, other: 0})
    reading = asyncio.create_task(windows.of(other, 0))
    await until(windows.is_reading)
    windows.drop([tp])
    await reading
    assert not windows.is_reading()
    await send(broker, topics, ["b"])
    assert (await windows.of(tp, 2)).repeats("web", "b", 2)


async def test_a_batch_that_is_revoked_during_the_read_back_is_not_routed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Its partition belongs to another router by then, which routes it."""
    pipeline = Pipeline(RuleSet("v", Sources([Source.of("web", [])]), []), {}, tmp_path)
    tp = (TOPICS.events, 0)
    record = LocalRecord(TOPICS.events, 0, 0, 1_790_000_000_000, b"u", b"no event", ())
    tracker = OffsetTracker()

    async def revoke(*_: object) -> Window:
        if revoked:
            tracker.drop([tp])
        return Window(10)

    monkeypatch.setattr(pipeline.windows, "of", revoke)
    for revoked in (True, False):
        batch = tracker.open(tp, [record])
        await pipeline.router.work(batch)
        if not revoked:
            await pipeline.finished(batch)
        assert list(pipeline.producer.records) == ([] if revoked else [TOPICS.rejected, TOPICS.outcomes])
