"""Read and send records with kafka-python, for commands. Blocking; raises BrokerError."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self, TypeVar

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from streams.clock import record_time
from streams.kafka.settings import Broker, BrokerError
from streams.records.format import MAX_RECORD_BYTES, Headers
from streams.records.size import HEADROOM, LARGEST_RECORD_BYTES, SHORT_HEADERS, RecordTooLargeError, length_of

Part = TypeVar("Part", bound=tuple[str, int])
"""A topic and a partition, as each client library has a class for it."""

BOOTSTRAP_MS = 10_000
"""Milliseconds to wait for a Kafka that is down at the start."""

POLL_TIMEOUT_SECONDS = 60.0
"""Seconds without an expected record after which Kafka is reported as down."""


class BlockingProducer:
    """A producer for a `with` block; `confirm` waits until Kafka has stored all records."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._sent: list[Any] = []

    def __enter__(self) -> Self:
        with kafka_errors(self._broker):
            self._producer = KafkaProducer(
                **self._broker.client(),
                acks="all",
                enable_idempotence=self._broker.idempotent,
                linger_ms=5,
                max_request_size=MAX_RECORD_BYTES,
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
        """Send one record; raises RecordTooLargeError, and then nothing is sent."""
        size = len(value or b"") + len(key or b"") + max(0, length_of(headers or []) - SHORT_HEADERS) + HEADROOM
        if size > LARGEST_RECORD_BYTES:
            raise RecordTooLargeError.of(size - HEADROOM, LARGEST_RECORD_BYTES)
        with kafka_errors(self._broker):
            self._sent.append(
                self._producer.send(
                    topic, value=value, key=key, partition=partition, headers=headers or [], timestamp_ms=record_time()
                )
            )

    def confirm(self) -> None:
        """Wait until Kafka has stored all records."""
        with kafka_errors(self._broker):
            self._producer.flush()
            for future in self._sent:
                future.get(timeout=30)
        self._sent.clear()


@contextmanager
def open_consumer(broker: Broker, group: str | None = None) -> Iterator[Any]:
    """Open a consumer for a `with` block; with `group` it can commit offsets."""
    with kafka_errors(broker):
        consumer = KafkaConsumer(
            **broker.consumer(), group_id=group, enable_auto_commit=False, bootstrap_timeout_ms=BOOTSTRAP_MS
        )
        try:
            yield consumer
        finally:
            consumer.close()


def poll(consumer: Any, broker: Broker, most: int | None = None) -> dict[Any, list[Any]]:
    """Return the next records of the consumer's partitions, by partition, at most `most`.

    Waits until records arrive or the position moves past offsets without records. Raises BrokerError if neither happens
    for POLL_TIMEOUT_SECONDS.
    """
    deadline = time.monotonic() + POLL_TIMEOUT_SECONDS
    before = [consumer.position(part) for part in consumer.assignment()]
    while True:
        found: dict[Any, list[Any]] = consumer.poll(timeout_ms=500, max_records=most)
        if found or before != [consumer.position(part) for part in consumer.assignment()]:
            return found
        if time.monotonic() > deadline:
            raise BrokerError(f"Kafka at {broker.bootstrap}: no record arrived for {POLL_TIMEOUT_SECONDS:.0f} seconds")


def complete_ends(broker: Broker, ends: Mapping[Part, int]) -> Mapping[Part, int]:
    """Return the offset after each partition's last record; `ends` is the result of `end_offsets`, of either library.

    Kafka's result is correct. The embedded broker returns the offset after the first record of the last batch, and the
    correct one only with fetched records. Raises BrokerError.
    """
    filled = {TopicPartition(*part): end for part, end in ends.items() if end}
    if broker.idempotent or not filled:
        return ends
    with open_consumer(broker) as consumer, kafka_errors(broker):
        consumer.assign(list(filled))
        for part, end in filled.items():
            consumer.seek(part, end - 1)
        while any(consumer.highwater(part) is None for part in filled):
            poll(consumer, broker)
        found = {tuple(part): max(end, consumer.highwater(part)) for part, end in filled.items()}
    return {part: found.get(tuple(part), 0) for part in ends}


def is_at_end(consumer: Any, broker: Broker, part: TopicPartition, end: int) -> bool:
    """Check whether a consumer has read a partition up to `end`, the answer of `end_offsets`; see `complete_ends`."""
    if not broker.idempotent:
        end = max(end, consumer.highwater(part) or 0)
    return bool(consumer.position(part) >= end)


def read_to_end(consumer: Any, broker: Broker, part: TopicPartition) -> Iterator[list[Any]]:
    """Yield a partition's records, as they are fetched, from the consumer's position to the partition's current end.

    The last records may be past that end. The consumer must be assigned only this partition. Raises BrokerError if
    nothing arrives for POLL_TIMEOUT_SECONDS.
    """
    end = consumer.end_offsets([part])[part]
    while not is_at_end(consumer, broker, part, end):
        yield poll(consumer, broker).get(part, [])


@contextmanager
def kafka_errors(broker: Broker) -> Iterator[None]:
    """Raise Kafka errors inside the block as BrokerError."""
    try:
        yield
    except (KafkaError, OSError) as error:
        raise BrokerError(f"Kafka at {broker.bootstrap}: {type(error).__name__}: {error}".splitlines()[0]) from error
