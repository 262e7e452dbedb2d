"""Read the reports of processes, and the commands for integrations. Blocking; raises BrokerError."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any, Self

from kafka import TopicPartition
from kafka.errors import KafkaError

from streams.kafka.admin import find_partitions
from streams.kafka.client import BlockingProducer, kafka_errors, open_consumer, read_to_end
from streams.kafka.settings import Broker, BrokerError
from streams.kafka.timestamps import known_offsets
from streams.operations.overview import Overview, make_overview
from streams.parsing.times import seconds_of
from streams.records.control import Control, ControlAction
from streams.records.format import RecordError
from streams.records.status import ProcessStatus
from streams.topics import STATUS_SECONDS, Topic, Topics

DEAD_SECONDS = 3600.0
"""How far back dead letters are counted, in seconds."""


class OperationsReader:
    """Reads reports and commands; keeps its connection until the end of the `with` block.

    `reports` has the last report of each process by its ID; `orders` the last command for each integration.
    """

    def __init__(self, broker: Broker, topics: Topics) -> None:
        self._broker, self._topics = broker, topics
        self._status, self._control = TopicPartition(topics.status, 0), TopicPartition(topics.control, 0)
        self._next: dict[TopicPartition, int] = {}
        self.reports: dict[str, ProcessStatus] = {}
        self.orders: dict[str, Control] = {}

    def __enter__(self) -> Self:
        parts = (self._status, self._control)
        declared = [Topic(part.topic, 1, None) for part in parts]
        missing = {topic.name for topic in declared} - find_partitions(self._broker, declared).keys()
        if missing:
            raise BrokerError(f"topic {min(missing)} is missing (create it with: turnout topics --create)")
        with ExitStack() as opened:
            self._consumer = opened.enter_context(open_consumer(self._broker))
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def catch_up(self) -> None:
        """Read new records; drop reports older than STATUS_SECONDS."""
        oldest = time.time() - STATUS_SECONDS
        for record in self._read(self._status, oldest):
            key = _text(record.key)
            try:
                report = ProcessStatus.decode(record.value) if record.value is not None else None
            except RecordError:
                report = None
            if report is None:
                self.reports.pop(key, None)
            else:
                self.reports[key] = report
        self.reports = {key: it for key, it in self.reports.items() if seconds_of(it.reported) >= oldest}
        for record in self._read(self._control):
            try:
                order = Control.decode(record.value)
            except RecordError:
                continue
            # A probe changes nothing that lasts.
            if order.action is not ControlAction.PROBE or _text(record.key) not in self.orders:
                self.orders[_text(record.key)] = order

    def look(self, integrations: Sequence[str]) -> Overview:
        """Read new records, and return what processes report of these integrations."""
        self.catch_up()
        paused = {name: order for name in integrations if (order := self.paused(name))}
        return make_overview(self.reports, integrations, paused, time.time())

    def paused(self, integration: str) -> Control | None:
        """Return who paused an integration, and when; None if it is not paused."""
        order = self.orders.get(integration)
        return order if order and order.action is ControlAction.PAUSED else None

    def count_dead(self) -> int | None:
        """Return about how many dead letters were written in the last hour; None if Kafka does not report it.

        It counts by offsets, so it includes records that mark others as handled.
        """
        with kafka_errors(self._broker):
            partitions = self._consumer.partitions_for_topic(self._topics.dead) or ()
            parts = [TopicPartition(self._topics.dead, partition) for partition in partitions]
            ends = self._consumer.end_offsets(parts)
            since = self._find(parts, time.time() - DEAD_SECONDS)
        if since is None:
            return None
        return sum(int(end - since.get(part, end)) for part, end in ends.items())

    def _read(self, part: TopicPartition, since: float = 0.0) -> Iterator[Any]:
        with kafka_errors(self._broker):
            self._consumer.assign([part])
            if part in self._next:
                self._consumer.seek(part, self._next[part])
            elif (first := (self._find([part], since) or {}).get(part)) is not None:
                self._consumer.seek(part, first)
            else:
                self._consumer.seek_to_beginning(part)
            for records in read_to_end(self._consumer, self._broker, part):
                yield from records
            self._next[part] = self._consumer.position(part)

    def _find(self, parts: list[TopicPartition], at: float) -> dict[TopicPartition, int] | None:
        """Return each partition's first offset at or after a time; None if Kafka does not report offsets by time."""
        if not at:
            return None
        try:
            return known_offsets(self._consumer.offsets_for_times(dict.fromkeys(parts, round(at * 1000))))
        except KafkaError:
            return None


def send_order(broker: Broker, topics: Topics, integration: str, order: Control) -> None:
    """Send a command for an integration to all forwarders."""
    with BlockingProducer(broker) as sending:
        sending.send(topics.control, integration.encode(), order.encode(), 0)
        sending.confirm()


def _text(key: bytes | None) -> str:
    return (key or b"").decode(errors="replace")
