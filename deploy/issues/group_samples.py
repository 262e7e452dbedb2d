"""Read samples of a group of dead letters, and delivered events to compare them with. Blocking."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, NamedTuple

import orjson
from kafka import TopicPartition

from deploy.config.configuration import Configuration
from deploy.dryrun.recorded_events import RecordedEvent
from deploy.ledger.client import LedgerClient
from deploy.replay.dead_letters import dead_letters
from deploy.replay.parked import Events, ParkedRecord, Selection
from streams.kafka.client import complete_ends, is_at_end, kafka_errors, open_consumer, poll
from streams.ledger.dead_group import group_of
from streams.records.dead_letter import DeadLetter
from streams.records.event import Origin
from streams.records.format import RecordError
from streams.records.outcomes import Outcome
from streams.routing.decoding import named_source

MAX_SAMPLES = 100
"""Failed and delivered events that are compared."""

MAX_GROUP_EVENTS = 2_000
"""Events of a group on which a changed rule is tried."""

MAX_READ_RECORDS = 12_000
"""Records of the dead topic that are read to find those of the group."""

MIN_READ_RECORDS = 200
"""Records that are read of each partition, however many partitions there are."""


class FailedSample(NamedTuple):
    """A dead letter of the group and its event; the event is None if Kafka has removed it."""

    letter: ParkedRecord[DeadLetter]
    origin: Origin
    event: Mapping[str, Any] | None


class GroupSamples(NamedTuple):
    """The newest dead letters of a group, newest first, and delivered events of the same rule."""

    failed: Sequence[FailedSample]
    delivered: Sequence[Mapping[str, Any]]


def read_samples(configuration: Configuration, group: Mapping[str, Any]) -> GroupSamples:
    """Return samples of a group, as `/dead/groups` describes it; raises BrokerError, LedgerAwayError."""
    newest: dict[int, int] = {}
    for place in group["newest"]:
        newest[place["partition"]] = max(place["offset"], newest.get(place["partition"], -1))
    letters = sorted(_letters(configuration, group["id"], newest), key=lambda it: -it.at)[:MAX_SAMPLES]
    asked = {"integration": group["integration"], "rule": group["rule"], "outcome": str(Outcome.DELIVERED)}
    client = LedgerClient(configuration.settings.ledger, configuration.folder)
    stories = client.ask("/events", {**asked, "limit": MAX_SAMPLES})["events"]
    delivered = [Origin(story["topic"], story["partition"], story["offset"]) for story in stories]
    origins = [Origin(*letter.letter.delivery["from"]) for letter in letters]
    events = _events(configuration, [*origins, *delivered])
    failed = [FailedSample(*pair, events.get(pair[1])) for pair in zip(letters, origins, strict=True)]
    both = set(origins)
    return GroupSamples(failed, [events[each] for each in delivered if each in events and each not in both])


def read_group_events(configuration: Configuration, integration: str, group_id: str) -> list[RecordedEvent]:
    """Return the events of all open dead letters of a group, up to MAX_GROUP_EVENTS; raises BrokerError."""
    letters = islice(
        dead_letters(configuration).find(Selection(integration=integration, group=group_id)), MAX_GROUP_EVENTS
    )
    origins = list(dict.fromkeys(Origin(*letter.letter.delivery["from"]) for letter in letters))
    with kafka_errors(configuration.settings.broker):
        records = Events(configuration.settings.broker).at(origins)
    return [
        RecordedEvent(":".join(map(str, origin)), record.value, named_source(record, configuration.sources), 0)
        for origin, record in records.items()
        if record.value is not None
    ]


def _events(configuration: Configuration, origins: Sequence[Origin]) -> dict[Origin, Mapping[str, Any]]:
    found: dict[Origin, Mapping[str, Any]] = {}
    with kafka_errors(configuration.settings.broker):
        records = Events(configuration.settings.broker).at(origins)
    for origin, record in records.items():
        with suppress(orjson.JSONDecodeError):
            event = orjson.loads(record.value or b"")
            if isinstance(event, dict):
                found[origin] = event
    return found


def _letters(
    configuration: Configuration, group_id: str, newest: Mapping[int, int]
) -> Iterator[ParkedRecord[DeadLetter]]:
    """Yield a group's dead letters, newest first, from the newest known ones or from the end of each partition."""
    broker, topic = configuration.settings.broker, configuration.topics.dead
    with kafka_errors(broker), open_consumer(broker) as consumer:
        numbers = sorted(consumer.partitions_for_topic(topic) or ())
        share = max(MIN_READ_RECORDS, MAX_READ_RECORDS // max(len(numbers), 1))
        for part in (TopicPartition(topic, number) for number in numbers):
            consumer.assign([part])
            begin = consumer.beginning_offsets([part])[part]
            end = complete_ends(broker, consumer.end_offsets([part]))[part]
            end = max(begin, min(end, newest.get(part.partition, end) + 1))
            consumer.seek(part, max(begin, end - share))
            while not is_at_end(consumer, broker, part, end):
                for record in poll(consumer, broker).get(part, ()):
                    if (letter := _decode(record)) and group_of(letter, record.key).id == group_id:
                        yield ParkedRecord(part.partition, record.offset, record.timestamp / 1000, record.key, letter)


def _decode(record: Any) -> DeadLetter | None:
    with suppress(RecordError):
        return DeadLetter.decode(record.value) if record.value is not None else None
    return None
