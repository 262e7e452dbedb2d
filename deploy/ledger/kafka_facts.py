"""Read the facts that only Kafka has: events, times of outcomes, payloads and dead letters."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from time import monotonic
from typing import Any, NamedTuple

from kafka import TopicPartition

from streams.kafka.client import complete_ends, is_at_end, kafka_errors, open_consumer, poll, read_to_end
from streams.kafka.settings import Broker
from streams.kafka.timestamps import known_offsets
from streams.records.dead_letter import DeadLetter
from streams.records.delivery import DeliveryRecord
from streams.records.event import Origin
from streams.records.format import RecordError
from streams.records.outcomes import FORWARDED, NOTED, Outcome, Outcomes, Stage
from streams.records.recorded_rules import RecordedRules
from streams.records.rejected import Rejected
from streams.topics import Topics

BEYOND_END_MS = 500
"""Milliseconds to wait for a record at or behind the end that the broker reports."""

REJECTED_RECORDS = 200
"""The newest rejected events of a partition that are read for examples."""

RULES_AT_ONCE = 16
RULES_BYTES = 64 * 1024 * 1024
"""How many of the newest rules are read first, and how many bytes of rules at most."""

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


class FoundRules(NamedTuple):
    """Recorded rules by version; `cut` if RULES_BYTES ended the search for others."""

    by_version: Mapping[str, RecordedRules]
    cut: bool


@contextmanager
def open_kafka(broker: Broker, topics: Topics) -> Iterator["KafkaFacts"]:
    """Open a reader of Kafka for a `with` block; raises BrokerError."""
    with open_consumer(broker) as consumer:
        yield KafkaFacts(consumer, broker, topics)


class KafkaFacts:
    """Reads single records and short ranges; blocking, raises BrokerError."""

    def __init__(self, consumer: Any, broker: Broker, topics: Topics) -> None:
        self._consumer, self._broker, self._topics = consumer, broker, topics

    def record(self, place: Origin) -> Any | None:
        """Return the record at a place; None if Kafka does not have it, or no longer."""
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
                # The embedded broker may report an end that is too low.
                records = self._consumer.poll(timeout_ms=BEYOND_END_MS, max_records=1).get(part, ())
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
        known: list[RecordedOutcome] = []

        def take(record: Any) -> list[RecordedOutcome]:
            if record.key != key or record.value is None:
                return []
            with suppress(RecordError):
                outcomes = Outcomes.decode(record.value)
                if (outcomes.topic, outcomes.partition) == place[:2]:
                    new = list(_of_event(outcomes, place.offset, record.timestamp, attempts))
                    new += _lost_of_event(outcomes, place.offset, record.timestamp, known)
                    known.extend(new)
                    return new
            return []

        return self._search(self._topics.outcomes, place, since_ms, take, _is_complete)

    def delivery(self, place: Origin, integration: str, rule: str, since_ms: int) -> DeliveryRecord | None:
        """Return the router's record for an integration; None if it is not found."""

        def take(record: Any) -> list[DeliveryRecord]:
            with suppress(RecordError):
                delivery = DeliveryRecord.decode(record.value)
                return [delivery] if delivery.origin == place and delivery.rule == rule else []
            return []

        found = self._search(self._topics.forward(integration), place, since_ms, take, bool).found
        return found[0] if found else None

    def rules(self, versions: Collection[str]) -> FoundRules:
        """Return the recorded rules of those versions that Kafka has and this release can read.

        The newest records are read first, at most RULES_BYTES.
        """
        part, found, left = TopicPartition(self._topics.rulesets, 0), dict[str, RecordedRules](), set(versions)
        with kafka_errors(self._broker):
            if part.partition not in (self._consumer.partitions_for_topic(part.topic) or ()):
                return FoundRules(found, cut=False)
            self._consumer.assign([part])
            begin = self._consumer.beginning_offsets([part])[part]
            stop = complete_ends(self._broker, self._consumer.end_offsets([part]))[part]
            size, read = RULES_AT_ONCE, 0
            while left and stop > begin and read < RULES_BYTES:
                start = max(begin, stop - size)
                newest: dict[str, bytes | None] = {}
                for record in self._between(part, start, stop):
                    read += len(record.value or b"")
                    newest[(record.key or b"").decode(errors="replace")] = record.value
                for version in left & newest.keys():
                    left.discard(version)
                    with suppress(RecordError):
                        found[version] = RecordedRules.decode(newest[version])
                stop, size = start, 2 * size
        return FoundRules(found, cut=bool(left) and stop > begin)

    def _between(self, part: TopicPartition, start: int, stop: int) -> Iterator[Any]:
        """Yield the records of the assigned partition from one offset up to, not including, another."""
        self._consumer.seek(part, start)
        while self._consumer.position(part) < stop:
            for record in poll(self._consumer, self._broker).get(part, ()):
                if start <= record.offset < stop:
                    yield record

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

    def newest_rejected(self, since: float, until: float) -> list[tuple[Origin, float, Rejected]]:
        """Return the newest events that the collector rejected, with their places and times in seconds since 1970.

        At most REJECTED_RECORDS of each partition are read.
        """
        found: list[tuple[Origin, float, Rejected]] = []
        topic = self._topics.rejected
        with kafka_errors(self._broker):
            parts = [TopicPartition(topic, number) for number in self._consumer.partitions_for_topic(topic) or ()]
            ends = self._consumer.end_offsets(parts) if parts else {}
            starts = known_offsets(self._consumer.offsets_for_times(dict.fromkeys(parts, int(since * 1000))))
            for part, start in starts.items():
                self._consumer.assign([part])
                self._consumer.seek(part, max(start, ends[part] - REJECTED_RECORDS))
                for record in chain.from_iterable(read_to_end(self._consumer, self._broker, part)):
                    with suppress(RecordError):
                        at = record.timestamp / 1000
                        if record.value is None or not since <= at < until:
                            continue
                        rejected = Rejected.decode(record.key, record.value, record.headers)
                        if rejected.origin is None:
                            found.append((Origin(topic, part.partition, record.offset), at, rejected))
        return sorted(found, key=lambda it: it[1], reverse=True)

    def _search(
        self,
        topic: str,
        place: Origin,
        since_ms: int,
        take: Callable[[Any], list[Any]],
        complete: Callable[[list[Any]], bool],
    ) -> Search:
        """Read a topic's partition for an event, from a time on."""
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
            while not is_at_end(self._consumer, self._broker, part, end):
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


def _lost_of_event(
    outcomes: Outcomes, offset: int, at: int, known: Sequence[RecordedOutcome]
) -> Iterator[RecordedOutcome]:
    """Yield the outcomes of deliveries that were forwarded, by earlier records, and that a forwarder could not read."""
    finished = {each[2:4] for each in known if each.outcome != FORWARDED}
    for lost in outcomes.lost:
        waiting = {rule for rule, spans in lost.waiting if any(first <= offset <= last for first, last in spans)}
        for each in known:
            if (
                each.outcome == FORWARDED
                and each.integration == lost.integration
                and lost.start <= offset < lost.end
                and each[2:4] not in finished
                and each.rule not in waiting
            ):
                yield each._replace(at=at, stage=outcomes.stage, outcome=Outcome.LOST, reason=lost.reason)


def _is_complete(found: list[RecordedOutcome]) -> bool:
    forwarded = {each[2:4] for each in found if each.outcome == FORWARDED}
    finished = {each[2:4] for each in found if each.outcome != FORWARDED}
    return any(each.stage == Stage.ROUTER and each.outcome != NOTED for each in found) and forwarded <= finished
