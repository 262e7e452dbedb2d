"""Add partitions to topics that are drained. Blocking; raises BrokerError."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kafka import TopicPartition

from streams.kafka.admin import AdminConnection, find_partitions
from streams.kafka.client import open_consumer, read_to_end
from streams.kafka.settings import Broker, BrokerError
from streams.plurals import counted
from streams.topics import Topic


def find_obstacles(broker: Broker, readers: Mapping[str, Sequence[str]], timeout: float = 10.0) -> list[str]:
    """Return why partitions cannot be added without breaking the order of events, one line per reason.

    A user's new events would go to another partition and could overtake older ones. Therefore no worker may be running,
    and no record may be unprocessed.

    Args:
        broker: How to reach Kafka.
        readers: The topics of each consumer group.
        timeout: Seconds that Kafka has to answer.

    """
    with AdminConnection(broker, timeout) as admin:
        known = {group["group_id"] for group in admin.list_groups()}
        groups = admin.describe_groups([name for name in readers if name in known])
    obstacles = [
        f"{counted(len(members), 'worker')} of the group {name} still running: stop every router and forwarder"
        for name in readers
        if (members := groups.get(name, {}).get("members"))
    ]
    partitions = find_partitions(broker, (Topic(name, None, None) for names in readers.values() for name in names))
    for group, names in readers.items():
        with open_consumer(broker, group) as consumer:
            for name in names:
                parts = [TopicPartition(name, number) for number in range(partitions.get(name, 0))]
                if waiting := sum(_count_waiting(consumer, broker, part) for part in parts):
                    obstacles.append(
                        f"{name}: {counted(waiting, 'record')} not finished by the group {group}: let its workers"
                        " finish while the collectors are stopped"
                    )
    return obstacles


def _count_waiting(consumer: Any, broker: Broker, part: TopicPartition) -> int:
    """Return how many offsets follow the committed one, 0 if none of them has a record."""
    consumer.assign([part])
    begin, end = consumer.beginning_offsets([part])[part], consumer.end_offsets([part])[part]
    first = max(begin, consumer.committed(part) or 0)
    consumer.seek(part, first)
    # The last offsets may be those of transaction markers.
    return end - first if any(read_to_end(consumer, broker, part)) else 0


def grow_topics(broker: Broker, topics: Iterable[Topic], timeout: float = 30.0) -> None:
    """Add partitions until each topic has the declared number, and wait until the broker lists them.

    Raises BrokerError, also if a topic has more partitions than declared.
    """
    existing = find_partitions(broker, topics := list(topics), timeout)
    growing = {
        topic.name: topic.partitions
        for topic in topics
        if topic.partitions is not None and topic.partitions != existing.get(topic.name, topic.partitions)
    }
    for name, wanted in growing.items():
        if wanted < existing[name]:
            raise BrokerError(f"topic {name} has {existing[name]} partitions; Kafka cannot reduce them to {wanted}")
    with AdminConnection(broker, timeout) as admin:
        if growing:
            admin.create_partitions(growing)
    deadline = time.monotonic() + timeout
    while {
        name: number for name, number in find_partitions(broker, topics, timeout).items() if name in growing
    } != growing:
        if time.monotonic() > deadline:
            raise BrokerError(f"Kafka at {broker.bootstrap} does not list the partitions that it created")
        time.sleep(0.05)
