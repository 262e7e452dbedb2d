"""Read, select, replay and mark records of the dead and rejected topics."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, NamedTuple, TypeVar

from kafka import TopicPartition

from streams.kafka.client import BlockingProducer, complete_ends, open_consumer, poll, read_to_end
from streams.kafka.settings import Broker
from streams.ledger.dead_group import group_of
from streams.records.dead_letter import DeadLetter
from streams.records.event import Origin
from streams.records.format import RecordError
from streams.records.handled import Handled
from streams.records.rejected import Rejected

T = TypeVar("T")
Parked = TypeVar("Parked", DeadLetter, Rejected)
Place = tuple[int, int]
"""Partition and offset."""

MARK_BATCH = 500
"""Records that are sent before they are marked as handled; a crash in between repeats them."""

MAX_SKIPPED_OFFSETS = 2_000
"""Gaps up to this number of offsets are read, larger ones are skipped with a seek."""


class ParkedRecord(NamedTuple, Generic[Parked]):
    """A record with its partition, offset and time in seconds since 1970."""

    partition: int
    offset: int
    at: float
    key: bytes | None
    letter: Parked

    @property
    def place(self) -> Place:
        """Partition and offset."""
        return self.partition, self.offset

    @property
    def user(self) -> str | None:
        """The event's userId or anonymousId; None if the record has no key."""
        return None if self.key is None else self.key.decode(errors="replace")


@dataclass(frozen=True, slots=True)
class Selection:
    """Which records to select; None means any. Times are in seconds since 1970; `user` is the event's key.

    `group` is the ID of a group of dead letters.
    `id` is the messageId of dead letters.
    """

    integration: str | None = None
    reason: str | None = None
    rule: str | None = None
    user: str | None = None
    since: float | None = None
    until: float | None = None
    places: Collection[Place] = ()
    group: str | None = None
    id: str | None = None

    def matches(self, parked: "ParkedRecord[Any]") -> bool:
        """Return whether a record is selected."""
        letter = parked.letter
        if isinstance(letter, DeadLetter):
            if self.integration is not None and letter.integration != self.integration:
                return False
            rule, delivery_id = letter.delivery.get("rule"), letter.delivery.get("id")
            if self.rule is not None and rule != self.rule:
                return False
            # With `match: all`, the rule is a part of the delivery's ID.
            if self.id is not None and delivery_id not in (self.id, f"{self.id}:{rule}"):
                return False
            if self.group is not None and group_of(letter, parked.key).id != self.group:
                return False
        return (
            (self.reason is None or letter.reason == self.reason)
            and (self.user is None or parked.key == self.user.encode())
            and (self.since is None or parked.at >= self.since)
            and (self.until is None or parked.at < self.until)
            and (not self.places or parked.place in self.places)
        )


class ParkedRecords(Generic[Parked]):
    """Read the dead or the rejected topic. Blocking; raises BrokerError."""

    def __init__(self, broker: Broker, topic: str, decode: Callable[[Any], Parked]) -> None:
        self._broker, self._topic = broker, topic
        self._decode: Callable[[Any], Parked] = decode

    def find(self, selection: Selection) -> Iterator[ParkedRecord[Parked]]:
        """Yield the selected records that are not handled yet, by partition and offset; unreadable ones are skipped."""
        handled = {
            (record.partition, offset) for record in self._records() for offset in _handled(record.headers).offsets
        }
        for record in self._records():
            if record.value is None or (record.partition, record.offset) in handled:
                continue
            try:
                letter = self._decode(record)
            except RecordError:
                continue
            parked = ParkedRecord(record.partition, record.offset, record.timestamp / 1000, record.key, letter)
            if selection.matches(parked):
                yield parked

    def _records(self) -> Iterator[Any]:
        with open_consumer(self._broker) as consumer:
            numbers = consumer.partitions_for_topic(self._topic) or ()
            for part in (TopicPartition(self._topic, number) for number in sorted(numbers)):
                consumer.assign([part])
                consumer.seek_to_beginning(part)
                for records in read_to_end(consumer, self._broker, part):
                    yield from records


class Events:
    """Reads events at given offsets of their topics. Blocking; raises BrokerError."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def at(self, origins: Iterable[Origin]) -> dict[Origin, Any]:
        """Return the records at these places; those that Kafka has removed are left out."""
        offsets_by_partition: dict[TopicPartition, list[int]] = defaultdict(list)
        for origin in sorted(set(origins)):
            offsets_by_partition[TopicPartition(origin.topic, origin.partition)].append(origin.offset)
        found: dict[Origin, Any] = {}
        with open_consumer(self._broker) as consumer:
            for part, offsets in offsets_by_partition.items():
                consumer.assign([part])
                begin = consumer.beginning_offsets([part])[part]
                end = complete_ends(self._broker, consumer.end_offsets([part]))[part]
                left = [offset for offset in offsets if begin <= offset < end]
                position = -MAX_SKIPPED_OFFSETS - 1
                while left:
                    if not position <= left[0] <= position + MAX_SKIPPED_OFFSETS:
                        position = left[0]
                        consumer.seek(part, position)
                    for record in poll(consumer, self._broker).get(part, ()):
                        position = record.offset + 1
                        if left and record.offset == left[0]:
                            found[Origin(part.topic, part.partition, left.pop(0))] = record
                        while left and left[0] < position:
                            left.pop(0)
        return found


class ReplayProducer(BlockingProducer):
    """Replay records and mark their originals as handled. Blocking; raises BrokerError."""

    def __init__(self, broker: Broker, parked_topic: str) -> None:
        super().__init__(broker)
        self._parked_topic = parked_topic

    def mark_handled(self, how: str, places: Iterable[Place]) -> None:
        """Wait until all sent records are confirmed, then mark these records as handled."""
        self.confirm()
        by_partition: dict[int, list[int]] = defaultdict(list)
        for partition, offset in places:
            by_partition[partition].append(offset)
        for partition, offsets in by_partition.items():
            for batch in batches(offsets):
                self.send(self._parked_topic, b"handled", None, partition, Handled(how, batch).headers())
        self.confirm()


def drop(producer: ReplayProducer, parked: Iterable[ParkedRecord[Any]], advance: Callable[[int], object]) -> int:
    """Mark records as handled without sending them; returns their number."""
    count = 0
    for batch in batches(parked):
        producer.mark_handled("dropped", [one.place for one in batch])
        advance(len(batch))
        count += len(batch)
    return count


def batches(items: Iterable[T]) -> Iterator[list[T]]:
    """Yield batches of MARK_BATCH items, which are marked as handled together."""
    rest = iter(items)
    while batch := list(islice(rest, MARK_BATCH)):
        yield batch


def _handled(headers: Iterable[tuple[str, bytes]]) -> Handled:
    try:
        return Handled.decode(headers) or Handled("", ())
    except RecordError:
        return Handled("", ())
