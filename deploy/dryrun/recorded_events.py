"""Read recorded events from Kafka: those of a period, or the newest. Blocking; raises BrokerError."""

import heapq
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import orjson
from kafka import TopicPartition

from deploy.config.configuration import Configuration
from streams.kafka.admin import check_reachable
from streams.kafka.client import complete_ends, kafka_errors, open_consumer, poll
from streams.kafka.settings import Broker
from streams.kafka.timestamps import known_offsets
from streams.parsing.lenient_json import read_object
from streams.routing.decoding import named_source

POLL_RECORDS = 500


class RecordedEvent(NamedTuple):
    """An event as it was recorded.

    `place` is TOPIC:PARTITION:OFFSET, `value` the text of the event, and `source` the name of the source that its
    record or its topic states. `timestamp` is the record's, in milliseconds since 1970.
    """

    place: str
    value: bytes
    source: str | None
    timestamp: int

    def data(self) -> dict[str, Any] | None:
        """Return the event; None if it is not a JSON object, which the router rejects."""
        return read_object(self.value)

    def line(self) -> bytes:
        """Return the event as one line of JSON."""
        return orjson.dumps(orjson.loads(self.value)) if b"\n" in self.value else self.value


Matches = Callable[[RecordedEvent], bool]
Advance = Callable[[int], object]


@contextmanager
def open_recorded(configuration: Configuration) -> Iterator["RecordedEvents"]:
    """Open the events of a configuration in Kafka, for a `with` block."""
    with open_consumer(configuration.settings.broker) as consumer:
        yield RecordedEvents(configuration, consumer, configuration.settings.broker)


def read_newest(configuration: Configuration, count: int, matches: Matches = lambda _: True) -> Sequence[RecordedEvent]:
    """Return the newest matching events of a configuration, newest first. Blocking; raises BrokerError."""
    check_reachable(configuration.settings.broker)
    with open_recorded(configuration) as recorded:
        return recorded.newest(count, matches, lambda _: None)[::-1]


class RecordedEvents:
    """Reads the events topic and the topics of other systems that sources read, in bounded memory."""

    def __init__(self, configuration: Configuration, consumer: Any, broker: Broker) -> None:
        self._consumer, self._broker, self._sources = consumer, broker, configuration.sources
        names = (configuration.topics.events, *configuration.sources.topics)
        with kafka_errors(broker):
            self._parts = [
                TopicPartition(name, number)
                for name in names
                for number in sorted(consumer.partitions_for_topic(name) or ())
            ]

    def period(
        self, since: float, until: float | None = None
    ) -> tuple[int, Callable[[Advance], Iterator[RecordedEvent]]]:
        """Find the events from one time to another, in seconds since 1970, by default until now.

        Returns about how many there are, and a function that reads them: in order within each partition.
        """
        with kafka_errors(self._broker):
            begins, ends = self._bounds()
            last = self._offsets_at(until) if until is not None and until < time.time() else {}
            first = self._offsets_at(since)
        spans = {}
        for part, known_end in ends.items():
            end = last.get(part, known_end)
            spans[part] = (max(begins[part], min(first.get(part, end), end)), end)
        return sum(end - begin for begin, end in spans.values()), lambda advance: self._read(spans, advance)

    def newest(self, count: int, matches: Matches, advance: Advance) -> list[RecordedEvent]:
        """Return the newest matching events, oldest first; `advance` is called with numbers of events read."""
        found: list[tuple[int, int, RecordedEvent]] = []
        serial = 0
        with kafka_errors(self._broker):
            begins, ends = self._bounds()
        for part, end in ends.items():
            stop, size, matched = end, count, 0
            while stop > begins[part] and matched < count:
                start, newest = max(begins[part], stop - size), -1
                for event in self._read({part: (start, stop)}, advance):
                    newest = max(newest, event.timestamp)
                    if not matches(event):
                        continue
                    matched += 1
                    serial += 1
                    add = heapq.heappush if len(found) < count else heapq.heappushpop
                    add(found, (event.timestamp, serial, event))
                if len(found) == count and 0 <= newest < found[0][0]:
                    break  # what is before is older
                stop, size = start, 2 * size
        return [event for _, _, event in sorted(found, key=lambda each: each[0])]

    def _bounds(self) -> tuple[Mapping[TopicPartition, int], Mapping[TopicPartition, int]]:
        ends = complete_ends(self._broker, self._consumer.end_offsets(self._parts))
        return self._consumer.beginning_offsets(self._parts), ends

    def _offsets_at(self, at: float) -> dict[TopicPartition, int]:
        return known_offsets(self._consumer.offsets_for_times(dict.fromkeys(self._parts, round(at * 1000))))

    def _read(self, spans: dict[TopicPartition, tuple[int, int]], advance: Advance) -> Iterator[RecordedEvent]:
        left = {part: span for part, span in spans.items() if span[0] < span[1]}
        with kafka_errors(self._broker):
            self._consumer.assign(list(left))
            for part, (first, _) in left.items():
                self._consumer.resume(part)
                self._consumer.seek(part, first)
        while left:
            with kafka_errors(self._broker):
                fetched = poll(self._consumer, self._broker, POLL_RECORDS)
            for part, records in fetched.items():
                for record in records:
                    if part in left and record.offset < left[part][1] and record.value is not None:
                        yield self._event(record)
            with kafka_errors(self._broker):
                for part, (at, end) in list(left.items()):
                    position = min(self._consumer.position(part), end)
                    advance(position - at)
                    left[part] = (position, end)
                    if position == end:
                        self._consumer.pause(part)
                        del left[part]

    def _event(self, record: Any) -> RecordedEvent:
        place = f"{record.topic}:{record.partition}:{record.offset}"
        return RecordedEvent(place, record.value, named_source(record, self._sources), record.timestamp)
