"""Read from Kafka what the ledger does not keep: an event, when its outcomes came, payloads and dead letters."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any, NamedTuple

from kafka import TopicPartition

from streams.kafka.client import kafka_errors, open_consumer, poll, poll_beyond_end, read_to_end
from streams.kafka.settings import Broker
from streams.kafka.timestamps import known_offsets
from streams.records.dead_letter import DeadLetter
from streams.records.delivery import DeliveryRecord
from streams.records.event import Origin
from streams.records.format import RecordError
from streams.records.outcomes import FORWARDED, NOTED, Outcomes, Stage
from streams.records.recorded_rules import RecordedRules
from streams.topics import Topics

SEARCH_RECORDS = 50_000
SEARCH_SECONDS = 10.0
"""How far a search reads on from the time of the event."""


class RecordedOutcome(NamedTuple):
    """An outcome as a record of `turnout.outcomes` has it; `at` is the record's time in milliseconds since 1970.

    `attempts` is None if it was not recorded, `status` also if the delivery succeeded at once.
    """

    at: int
    stage: Stage
    integration: str
    rule: str
    outcome: str
    reason: str
    detail: str
    rules: str
    attempts: int | None = None
    status: int | None = None


class Search(NamedTuple):
    """The result of a search; `cut` if its bounds ended it."""

    found: list[Any]
    cut: bool


@contextmanager
def open_kafka(broker: Broker, topics: Topics) -> Iterator["KafkaFacts"]:
    """Open a reader of Kafka for a `with` block; raises BrokerError."""
    with open_consumer(broker) as consumer:
        yield KafkaFacts(consumer, broker, topics)


class KafkaFacts:
    """Reads single records and short stretches; blocking, raises BrokerError."""

    def __init__(self, consumer: Any, broker: Broker, topics: Topics) -> None:
        self._consumer, self._broker, self._topics = consumer, broker, topics

    def record(self, place: Origin) -> Any | None:
        """Return the record at a place; None if Kafka has none there, or no longer."""
        part = TopicPartition(place.topic, place.partition)
        with kafka_errors(self._broker):
            if place.partition not in (self._consumer.partitions_for_topic(place.topic) or ()):
                return None
            self._consumer.assign([part])
            begin = self._consumer.beginning_offsets([part])[part]
            end = self._consumer.end_offsets([part])[part]
            if place.offset < begin:
                return None
            self._consumer.seek(part, place.offset)
            if place.offset >= end:
                records = poll_beyond_end(self._consumer, part, 1)
                return next((record for record in records if record.offset == place.offset), None)
            while self._consumer.position(part) <= place.offset:
                for record in poll(self._consumer, self._broker, 1).get(part, ()):
                    # Some brokers return a batch from its first record on.
                    if record.offset >= place.offset:
                        return record if record.offset == place.offset else None
        return None

    def outcomes(self, place: Origin, since_ms: int) -> Search:
        """Return the recorded outcomes of an event; the search ends when every forwarded delivery has a final one."""
        key = f"{place.topic}:{place.partition}".encode()
        attempts: Attempts = {}

        def take(record: Any) -> list[RecordedOutcome]:
            if record.key != key or record.value is None:
                return []
            with suppress(RecordError):
                outcomes = Outcomes.decode(record.value)
                if (outcomes.topic, outcomes.partition) == place[:2]:
                    return list(_of_event(outcomes, place.offset, record.timestamp, attempts))
            return []

        return self._search(self._topics.outcomes, place, since_ms, take, _is_complete)

    def delivery(self, place: Origin, integration: str, rule: str, since_ms: int) -> DeliveryRecord | None:
        """Return what the router wrote for an integration; None if it is not found."""

        def take(record: Any) -> list[DeliveryRecord]:
            with suppress(RecordError):
                delivery = DeliveryRecord.decode(record.value)
                return [delivery] if delivery.origin == place and delivery.rule == rule else []
            return []

        found = self._search(self._topics.forward(integration), place, since_ms, take, bool).found
        return found[0] if found else None

    def rules(self, versions: Collection[str]) -> dict[str, RecordedRules]:
        """Return the recorded rules of these versions, as far as Kafka has them and this release can read them."""
        part, found = TopicPartition(self._topics.rulesets, 0), dict[str, RecordedRules]()
        with kafka_errors(self._broker):
            if part.partition not in (self._consumer.partitions_for_topic(part.topic) or ()):
                return found
            self._consumer.assign([part])
            self._consumer.seek_to_beginning(part)
            for records in read_to_end(self._consumer, self._broker, part):
                for record in records:
                    version = (record.key or b"").decode(errors="replace")
                    if version in versions:
                        found.pop(version, None)
                        with suppress(RecordError):
                            found[version] = RecordedRules.decode(record.value)
        return found

    def letter(self, partition: int, offset: int) -> DeadLetter | None:
        """Return a dead letter by its place in the dead topic."""
        record = self.record(Origin(self._topics.dead, partition, offset))
        with suppress(RecordError):
            return DeadLetter.decode(record.value) if record is not None and record.value is not None else None
        return None

    def letters(self, place: Origin, since_ms: int, expected: int) -> list[tuple[int, int, DeadLetter]]:
        """Return an event's dead letters with their partition and offset, until the `expected` number is found."""

        def take(record: Any) -> list[tuple[int, int, DeadLetter]]:
            with suppress(RecordError):
                if record.value is not None:
                    letter = DeadLetter.decode(record.value)
                    if tuple(letter.delivery["from"]) == tuple(place):
                        return [(record.partition, record.offset, letter)]
            return []

        return self._search(self._topics.dead, place, since_ms, take, lambda found: len(found) >= expected).found

    def _search(
        self,
        topic: str,
        place: Origin,
        since_ms: int,
        take: Callable[[Any], list[Any]],
        complete: Callable[[list[Any]], bool],
    ) -> Search:
        """Read the partition of a topic that belongs to an event, from a time on."""
        part = TopicPartition(topic, place.partition % self._topics.partitions)
        found: list[Any] = []
        with kafka_errors(self._broker):
            if part.partition not in (self._consumer.partitions_for_topic(topic) or ()):
                return Search(found, cut=False)
            self._consumer.assign([part])
            end = self._consumer.end_offsets([part])[part]
            start = known_offsets(self._consumer.offsets_for_times({part: max(0, since_ms)})).get(part)
            if start is None:
                return Search(found, cut=False)
            self._consumer.seek(part, start)
            read, deadline = 0, monotonic() + SEARCH_SECONDS
            while self._consumer.position(part) < end:
                for record in poll(self._consumer, self._broker).get(part, ()):
                    read += 1
                    found += take(record)
                if complete(found):
                    break
                if read >= SEARCH_RECORDS or monotonic() > deadline:
                    return Search(found, cut=True)
        return Search(found, cut=False)


Attempts = dict[tuple[str, str], tuple[int, int | None]]
"""Attempts and status by integration and rule, of outcomes that are still to be read."""


def _of_event(outcomes: Outcomes, offset: int, at: int, attempts: Attempts) -> Iterator[RecordedOutcome]:
    for each in outcomes.attempts or ():
        if each.first <= offset <= each.last:
            attempts[each.integration, each.rule] = each.attempts, each.status
    reasons = {
        named[:3]: (named.reason, named.detail)
        for named in outcomes.named
        if named.offset == offset and named.outcome != NOTED
    }
    for span in outcomes.spans:
        if span.first <= offset <= span.last:
            reason, detail = reasons.get(span[:3], (span.detail, ""))
            tried = None if outcomes.attempts is None else attempts.pop(span[:2], (1, None))
            yield RecordedOutcome(
                at, outcomes.stage, *span[:3], reason, detail, outcomes.rules, *(tried or (None, None))
            )
    for named in outcomes.named:
        if named.offset == offset and named.outcome == NOTED:
            yield RecordedOutcome(at, outcomes.stage, "", "", NOTED, named.reason, named.detail, outcomes.rules)


def _is_complete(found: list[RecordedOutcome]) -> bool:
    forwarded = {each[2:4] for each in found if each.outcome == FORWARDED}
    finished = {each[2:4] for each in found if each.outcome != FORWARDED}
    return any(each.stage == Stage.ROUTER and each.outcome != NOTED for each in found) and forwarded <= finished
