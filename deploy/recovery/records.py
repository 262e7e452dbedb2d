"""Kafka for commands: records read and sent with kafka-python. Blocking; what goes wrong is a BrokerError."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from streams.broker import Broker, BrokerError
from streams.record_size import HEADROOM, LARGEST_RECORD_BYTES, SHORT_HEADERS, RecordTooLargeError, length_of
from streams.topics import RECORD_BYTES, Headers

BOOTSTRAP_MS = 10_000
"""How long a Kafka that was not there at the start is waited for."""

PATIENCE = 60.0
"""Seconds without a record where there must be one, after which Kafka counts as away."""


class Sending:
    """A producer for the length of a `with`; what was sent is confirmed when `confirm` returns."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._sent: list[Any] = []

    def __enter__(self) -> Self:
        with speaking(self._broker):
            self._producer = KafkaProducer(
                **self._broker.client(),
                acks="all",
                enable_idempotence=self._broker.idempotent,
                linger_ms=5,
                max_request_size=RECORD_BYTES,
                bootstrap_timeout_ms=BOOTSTRAP_MS,
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._producer.close(timeout=10)

    def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int | None = None,
        headers: Headers | None = None,
    ) -> None:
        """One record; raises RecordTooLargeError, and then nothing is sent."""
        size = len(value or b"") + len(key or b"") + max(0, length_of(headers or []) - SHORT_HEADERS) + HEADROOM
        if size > LARGEST_RECORD_BYTES:
            raise RecordTooLargeError.of(size - HEADROOM, LARGEST_RECORD_BYTES)
        with speaking(self._broker):
            self._sent.append(
                self._producer.send(topic, value=value, key=key, partition=partition, headers=headers or [])
            )

    def confirm(self) -> None:
        """Wait until Kafka has all that was sent."""
        with speaking(self._broker):
            self._producer.flush()
            for future in self._sent:
                future.get(timeout=30)
        self._sent.clear()


@contextmanager
def consuming(broker: Broker, group: str | None = None) -> Iterator[Any]:
    """A consumer for the length of a `with`, of a group where it is to remember how far it came."""
    with speaking(broker):
        consumer = KafkaConsumer(
            **broker.consumer(), group_id=group, enable_auto_commit=False, bootstrap_timeout_ms=BOOTSTRAP_MS
        )
        try:
            yield consumer
        finally:
            consumer.close()


def poll(consumer: Any, broker: Broker, most: int | None = None) -> dict[Any, list[Any]]:
    """The next records of the partitions that the consumer has, by partition, `most` of them.

    Waits until some come or a place without records is passed; raises BrokerError where nothing moves for long.
    """
    deadline = time.monotonic() + PATIENCE
    before = [consumer.position(part) for part in consumer.assignment()]
    while True:
        found: dict[Any, list[Any]] = consumer.poll(timeout_ms=500, max_records=most)
        if found or before != [consumer.position(part) for part in consumer.assignment()]:
            return found
        if time.monotonic() > deadline:
            raise BrokerError(f"Kafka at {broker.bootstrap}: no record came for {PATIENCE:.0f} seconds")


def read_to_end(consumer: Any, broker: Broker, part: TopicPartition) -> Iterator[list[Any]]:
    """Yield a partition's records, as they are fetched, from the consumer's position to the partition's present end.

    The last records may be from behind that end. The consumer must be assigned this partition alone. Raises BrokerError
    if nothing comes for long.
    """
    end = consumer.end_offsets([part])[part]
    while consumer.position(part) < end:
        yield poll(consumer, broker).get(part, [])


@contextmanager
def speaking(broker: Broker) -> Iterator[None]:
    """Kafka's errors within as BrokerError."""
    try:
        yield
    except (KafkaError, OSError) as error:
        raise BrokerError(f"Kafka at {broker.bootstrap}: {type(error).__name__}: {error}".splitlines()[0]) from error
