"""Replayed records keep the key and partition of their event, so that a user's events stay together and in order."""

import json
from typing import Any

import orjson
import pytest

from streams.kafka.admin import create_topics
from streams.records.dead_letter import DeadLetter
from streams.records.delivery import DeliveryRecord
from streams.records.event import Origin, event_headers
from streams.records.rejected import rejected_headers
from streams.topics import Topic
from tests.deploy.replay.stage import BEGIN, END, Stage

FOREIGN = "shop.orders"


def die(stage: Stage, n: int, origin: Origin) -> None:
    """A dead letter of the event at `origin`, whose key is that of user `n`."""
    delivery = DeliveryRecord(f"m{n}", "bought", "v0", "track", "Bought", "t", "r", "web", origin, {"n": n})
    letter = DeadLetter("one", delivery.data(), "bad", "", 2, "2026-01-02T03:04:05Z")
    stage.write({"topic": stage.topics.dead, "partition": 0, "key": b"u%d" % n, "value": letter.encode()})


def places(records: list[Any]) -> set[tuple[int, bytes]]:
    return {(record.partition, record.key) for record in records}


@pytest.mark.parametrize("options", [(), ("--as-was",)])
def test_dead_letters_go_back_to_the_partition_of_their_event(stage: Stage, options: tuple[str, ...]):
    """By today's rules and as they were, under their own key, wherever the dead letter itself is kept."""
    stage.arrive(0, 1, 2)
    for n in range(3):
        die(stage, n, Origin(stage.topics.events, n, 0))
    assert json.loads(stage.run("dead", "replay", *options, "--yes", "--json")) == {"replayed": 3}
    assert places(stage.forwarded()) == {(0, b"u0"), (1, b"u1"), (2, b"u2")}


def test_a_topic_with_more_partitions_is_folded_as_the_router_does(stage: Stage):
    """An event of another system's partition 4 goes to partition 1 of three."""
    die(stage, 5, Origin(FOREIGN, 4, 99))
    stage.run("dead", "replay", "--as-was", "--yes")
    (record,) = stage.forwarded()
    assert (record.partition, record.key) == (1, b"u5")
    assert DeliveryRecord.decode(record.value).origin == Origin(FOREIGN, 4, 99)


def test_rejected_events_go_back_to_their_partition(stage: Stage):
    """Under the key that they came with, and marked with the place of the rejected record."""
    for n in range(3):
        stage.write(
            {
                "topic": stage.topics.rejected,
                "partition": 2 - n,
                "key": b"u%d" % n,
                "value": orjson.dumps(stage.event(n)),
                "headers": rejected_headers("unknown_source", "", "web", Origin(stage.topics.events, n, 7)),
            }
        )
    assert json.loads(stage.run("rejected", "replay", "--yes", "--json")) == {"replayed": 3}
    found = {(it.partition, it.key, dict(it.headers)["turnout-replay"]) for it in stage.events()}
    assert found == {(0, b"u0", b"2:0"), (1, b"u1", b"1:0"), (2, b"u2", b"0:0")}


def test_rejected_events_of_no_partition_of_ours_go_where_their_key_belongs(stage: Stage):
    """Those of the collector and of other topics: where any Kafka client would put an event of this user."""
    users = [f"user-{n}" for n in range(8)]
    for n, user in enumerate(users):
        origin = Origin(FOREIGN, 0, n) if n % 2 else None
        stage.write(
            {
                "topic": stage.topics.rejected,
                "partition": 0,
                "key": user.encode() if n % 2 else None,
                "value": orjson.dumps({**stage.event(n), "userId": user}),
                "headers": rejected_headers("unknown_source", "", "web", origin),
            },
            # Kafka's own client decides where this one goes.
            {
                "topic": stage.topics.events,
                "key": user.encode(),
                "value": orjson.dumps({**stage.event(100 + n), "userId": user}),
                "headers": event_headers("web"),
            },
        )
    stage.run("rejected", "replay", "--yes")
    records = stage.events()
    assert len(records) == 2 * len(users)
    assert len(places(records)) == len(users)
    assert {key for _, key in places(records)} == {user.encode() for user in users}
    assert len({partition for partition, _ in places(records)}) > 1


def test_the_past_of_another_systems_topic_goes_where_the_router_sends_it(stage: Stage):
    """Its partitions are folded onto those of the forward topic, and keys and coordinates are the event's."""
    orders = f"shop.{stage.topics.prefix}"
    create_topics(stage.broker, [Topic(orders, 5, 3600)], replication=1)
    (stage.folder / "sources/web.yaml").write_text(f"source: web\ntopics: [{orders}]\n")
    for n in range(5):
        stage.write(
            {
                "topic": orders, "partition": n, "key": b"u%d" % n, "value": orjson.dumps(stage.event(n)),
                "timestamp_ms": round(BEGIN.timestamp() * 1000),
            }
        )  # fmt: skip
    times = ("--from", BEGIN.isoformat(), "--to", END.isoformat())
    stage.run("replay", "--integration", "one", *times, "--force", "--yes", "--rate", "0")
    forwarded = stage.forwarded()
    assert places(forwarded) == {(0, b"u0"), (1, b"u1"), (2, b"u2"), (0, b"u3"), (1, b"u4")}
    origins = {DeliveryRecord.decode(record.value).origin for record in forwarded}
    assert origins == {Origin(orders, n, 0) for n in range(5)}
