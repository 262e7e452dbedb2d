"""Dead letters and rejected events are found, chosen, and noted as handled, however many there are."""

import asyncio
from typing import Any

import pytest

from deploy.replay.parked import (
    Events,
    ParkedRecord,
    ParkedRecords,
    ReplayProducer,
    Selection,
    batches,
    drop,
)
from streams.kafka.acks import PendingAcks
from streams.kafka.admin import create_topics
from streams.kafka.producer import Producer
from streams.kafka.settings import Broker
from streams.records.dead_letter import DeadLetter
from streams.records.delivery import DeliveryRecord
from streams.records.event import Origin
from streams.records.format import Headers
from streams.records.rejected import Rejected, rejected_headers
from streams.topics import Topics
from tests.support import tansu

WRITTEN = "2026-01-02T03:04:05Z"


def fill(broker: Broker, topic: str, counts: dict[int, int], headers: Headers) -> None:
    """So many records in each partition, each with its offset as its value."""

    async def run() -> None:
        producer = Producer(broker, client_id="fill")
        await producer.start()
        acks = PendingAcks()
        for partition, count in counts.items():
            for offset in range(count):
                producer.append(topic, partition, acks, key=b"u", value=b"%d" % offset, headers=headers)
        await acks.confirmed(60)
        await producer.stop()

    asyncio.run(run())


@pytest.mark.kafka
def test_events_are_read_at_places_near_and_far(broker: Broker, topics: Topics):
    """Each is the record at its own place; a place that Kafka does not keep, or not yet has, is left out."""
    fill(broker, topics.events, {0: 5000, 2: 10}, [])
    wanted = [(0, 4999), (0, 0), (0, 1), (0, 2500), (0, 4499), (2, 9), (0, 2500), (0, 5000), (1, 0), (2, 10**9)]
    found = Events(broker).at(Origin(topics.events, partition, offset) for partition, offset in wanted)
    assert {(origin.partition, origin.offset) for origin in found} == {
        (0, 0), (0, 1), (0, 2500), (0, 4499), (0, 4999), (2, 9)
    }  # fmt: skip
    for origin, record in found.items():
        assert (record.partition, record.offset, record.value) == (
            origin.partition, origin.offset, b"%d" % origin.offset
        )  # fmt: skip


def test_last_batch_of_the_embedded_broker_is_read():
    """All events of the last batch are read, though the embedded broker reports an end inside it."""
    topics = Topics(prefix="t", partitions=1)
    with tansu.running() as broker:
        create_topics(broker, topics.declared([]), replication=1, timeout=60)
        fill(broker, topics.events, {0: 5}, [])
        found = Events(broker).at(Origin(topics.events, 0, offset) for offset in range(6))
    assert sorted(origin.offset for origin in found) == [0, 1, 2, 3, 4]


@pytest.mark.kafka
def test_what_is_handled_is_not_found_again(broker: Broker, topics: Topics):
    """Noted by partition and offset, however many at once; what nobody has handled stays."""
    fill(broker, topics.rejected, {0: 700, 1: 3}, rejected_headers("json", "", "web"))
    keep = ParkedRecords(
        broker, topics.rejected, lambda record: Rejected.decode(record.key, record.value, record.headers)
    )
    first = [one for one in keep.find(Selection()) if one.place not in ((0, 699), (1, 0), (1, 2))]
    assert len(first) == 700
    advanced: list[int] = []
    with ReplayProducer(broker, topics.rejected) as producer:
        assert drop(producer, first, advanced.append) == 700
    assert sum(advanced) == 700
    assert [one.place for one in keep.find(Selection())] == [(0, 699), (1, 0), (1, 2)]
    assert [one.letter.value for one in keep.find(Selection())] == [b"699", b"0", b"2"]


def test_portions_hold_all_in_order():
    """No portion is empty, none is larger than what one note may hold, and none is lost at a border."""
    for count in (0, 1, 499, 500, 501, 1000, 1001):
        some = list(batches(range(count)))
        assert [one for portion in some for one in portion] == list(range(count))
        assert all(0 < len(portion) <= 500 for portion in some)


def letter(**changes: Any) -> ParkedRecord[DeadLetter]:
    data = DeliveryRecord("m", "bought", "v", "track", "E", "t", "r", "web", Origin("events", 0, 0), {"n": 1}).data()
    parked = ParkedRecord(1, 7, 100.0, b"u1", DeadLetter("one", data, "bad", "", 1, WRITTEN))
    return parked._replace(**changes)


@pytest.mark.parametrize(
    ("selection", "matches"),
    [
        (Selection(), True),
        (Selection(integration="one", reason="bad", rule="bought", user="u1", since=100.0, until=100.1), True),
        (Selection(integration="two"), False),
        (Selection(reason="other"), False),
        (Selection(rule="sold"), False),
        (Selection(id="m"), True),
        (Selection(id="m:"), False),
        (Selection(id="bought"), False),
        (Selection(user="u"), False),
        (Selection(user=""), False),
        (Selection(since=100.0), True),
        (Selection(since=100.001), False),
        (Selection(until=100.0), False),
        (Selection(until=100.001), True),
        (Selection(since=0.0, until=0.0), False),
        (Selection(places=[(1, 7)]), True),
        (Selection(places=[(7, 1)]), False),
        (Selection(places=[(1, 7)], user="u2"), False),
    ],
)
def test_each_part_of_a_choice_narrows(selection: Selection, matches: bool):
    """`since` is inclusive, `until` exclusive, and missing criteria match anything."""
    assert selection.matches(letter()) is matches


def test_an_event_without_a_key_is_no_users():
    """Rejected events are selected like dead letters; a record without a key has no user, not the user ""."""
    parked = ParkedRecord(1, 7, 100.0, None, Rejected("json", "", "web", None, None, b"{"))
    assert Selection(reason="json", places=[(1, 7)]).matches(parked)
    assert not Selection(reason="bad").matches(parked)
    assert not Selection(user="").matches(parked)
