"""Read, replay and drop dead letters, for commands and the console. Blocking; raises BrokerError."""

from collections import Counter
from collections.abc import Iterable

from deploy.config.configuration import Configuration
from deploy.replay.parked import ParkedRecord, ParkedRecords, ReplayProducer, drop
from deploy.replay.replay import Advance, Report, replay_as_was, replay_through_rules
from streams.records.dead_letter import DeadLetter
from streams.suppression.admin import SuppressedList


def dead_letters(configuration: Configuration) -> ParkedRecords[DeadLetter]:
    """Return the dead letters of a configuration's environment."""
    return ParkedRecords(
        configuration.settings.broker, configuration.topics.dead, lambda record: DeadLetter.decode(record.value)
    )


def replay_dead(
    configuration: Configuration, chosen: Iterable[ParkedRecord[DeadLetter]], advance: Advance, *, as_was: bool = False
) -> Report:
    """Send dead letters again, mapped with the configuration's rules; with `as_was` with their original payload."""
    broker, topics = configuration.settings.broker, configuration.topics
    send = replay_as_was if as_was else replay_through_rules
    with (
        ReplayProducer(broker, topics.dead) as producer,
        SuppressedList(broker, topics, configuration.suppression.users) as suppressed,
    ):
        return send(configuration, producer, suppressed, chosen, advance)


def drop_dead(configuration: Configuration, chosen: Iterable[ParkedRecord[DeadLetter]], advance: Advance) -> Report:
    """Mark dead letters as handled without sending them."""
    with ReplayProducer(configuration.settings.broker, configuration.topics.dead) as producer:
        return Counter({"dropped": drop(producer, chosen, advance)})
