"""Send one event to one integration again, mapped with today's rules."""

from collections import Counter
from collections.abc import Sequence

from deploy.config.configuration import Configuration
from deploy.replay.parked import Events, ParkedRecord, Place, ReplayProducer
from deploy.replay.remapping import Remapper
from deploy.replay.replay import Report, replay_through_rules
from streams.records.dead_letter import DeadLetter
from streams.records.event import Origin
from streams.records.format import RecordError
from streams.records.outcomes import FORWARDED
from streams.records.size import RecordTooLargeError
from streams.suppression.admin import SuppressedList


def replay_event(configuration: Configuration, place: Origin, integration: str, dead: Sequence[Place]) -> Report:
    """Send an event again; returns the number of deliveries by result. Blocking; raises BrokerError.

    Args:
        configuration: The current rules.
        place: The event's topic, partition and offset.
        integration: The integration to send to.
        dead: Places of the event's dead letters for it, which are marked as handled if they are sent.

    """
    settings, topics = configuration.settings, configuration.topics
    users = configuration.suppression.users
    with (
        SuppressedList(settings.broker, topics, users) as suppressed,
        ReplayProducer(settings.broker, topics.dead) as producer,
    ):
        if dead:
            letters = _read(configuration, dead)
            return replay_through_rules(configuration, producer, suppressed, letters, lambda _: None)
        suppressed.catch_up()
        record = Events(settings.broker).at([place]).get(place)
        if record is None:
            return Counter({"Kafka has removed its event": 1})
        report: Report = Counter()
        for mapped in Remapper(configuration, integration).map(record):
            if mapped.delivery is None:
                report[f"{mapped.outcome} ({mapped.reason})" if mapped.reason else str(mapped.outcome)] += 1
                continue
            assert mapped.outcome == FORWARDED
            partition = place.partition % topics.partitions
            try:
                producer.send(topics.forward(integration), record.key, mapped.delivery.encode(), partition)
            except RecordTooLargeError:
                report["too large for a record"] += 1
            else:
                report["replayed"] += 1
        producer.confirm()
        return report


def _read(configuration: Configuration, places: Sequence[Place]) -> list[ParkedRecord[DeadLetter]]:
    origins = [Origin(configuration.topics.dead, *place) for place in places]
    found = []
    for record in Events(configuration.settings.broker).at(origins).values():
        try:
            letter = DeadLetter.decode(record.value)
        except RecordError:
            continue
        found.append(ParkedRecord(record.partition, record.offset, record.timestamp / 1000, record.key, letter))
    return found
