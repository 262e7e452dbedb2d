"""Read and change the list of suppressed users in Kafka. Blocking; raises BrokerError."""

import time
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Self

import orjson
from kafka import TopicPartition

from streams.kafka.client import BlockingProducer, kafka_errors, open_consumer, read_to_end
from streams.kafka.partition import make_partitioner
from streams.kafka.settings import Broker
from streams.parsing.texts import comparable
from streams.records.format import SUPPRESSED_VERSION
from streams.records.memory import MEMORY_MARK, MemoryCipher, MemoryKey, MemoryKind
from streams.suppression.filter import SETTLE_SECONDS, SuppressedUsers
from streams.topics import SUPPRESSED_END, Topics


class SuppressedList:
    """Read the list into `users`, and keep the connection until the end of the `with` block.

    `since` maps the digest of each user to the time of suppression in seconds since 1970.
    """

    def __init__(self, broker: Broker, topics: Topics, users: SuppressedUsers) -> None:
        self._broker, self._users = broker, users
        self._part = TopicPartition(topics.suppressed, 0)
        self.since: dict[bytes, float] = {}

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            self._consumer = opened.enter_context(open_consumer(self._broker))
            with kafka_errors(self._broker):
                self._consumer.assign([self._part])
                self._consumer.seek_to_beginning(self._part)
            self.catch_up()
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def catch_up(self) -> None:
        """Read the records added since the last call."""
        with kafka_errors(self._broker):
            for records in read_to_end(self._consumer, self._broker, self._part):
                for record in records:
                    self._users.take(record.key, record.value)
                    if record.value is None:
                        self.since.pop(record.key, None)
                    elif record.key != SUPPRESSED_END:
                        self.since.setdefault(record.key, record.timestamp / 1000)
        self._users.mark_read()


def change(
    broker: Broker,
    topics: Topics,
    suppressed: SuppressedUsers,
    users: Iterable[str],
    *,
    lift: bool,
    memory: MemoryCipher | None = None,
) -> int:
    """Suppress users or lift their suppression, and return how many. It applies to all events that arrive later.

    With the cipher of the enrichment `memory`, what it has of suppressed users is deleted.
    """
    topic = topics.suppressed
    value = orjson.dumps({"v": SUPPRESSED_VERSION})
    listed = list(users)
    home = make_partitioner(topics.partitions)
    keys = {key for user in listed for key in suppressed.digests(user)}
    with BlockingProducer(broker) as producer:
        for key in sorted(keys):
            producer.send(topic, key, None if lift else value, 0)
        producer.send(topic, SUPPRESSED_END, value, 0)
        if memory is not None and not lift:
            for user in listed:
                key = MemoryKey(MemoryKind.FORGET, memory.digest(user)).encode()
                producer.send(topics.memory, key, MEMORY_MARK, home(user.encode(errors="surrogatepass")))
        producer.confirm()
    time.sleep(SETTLE_SECONDS)
    return len(set(map(comparable, listed)))
