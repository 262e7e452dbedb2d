"""Kafka's list of suppressed users, as commands read and change it. Blocking; raises BrokerError."""

import time
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Self

import orjson
from kafka import TopicPartition

from deploy.config.configuration import Configuration
from deploy.recovery.records import Sending, consuming, read_to_end, speaking
from streams.suppression import SETTLED
from streams.texts import comparable
from streams.topics import SUPPRESSED_END, VERSION


class SuppressedList:
    """The list, for the length of a `with`: read into the configuration's suppression as far as it goes.

    `since` is when each was listed, in seconds since 1970, by its digest.
    """

    def __init__(self, configuration: Configuration) -> None:
        self._broker = configuration.settings.broker
        self._part = TopicPartition(configuration.topics.suppressed, 0)
        self._users = configuration.suppression.users
        self.since: dict[bytes, float] = {}

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            self._consumer = opened.enter_context(consuming(self._broker))
            with speaking(self._broker):
                self._consumer.assign([self._part])
                self._consumer.seek_to_beginning(self._part)
            self.catch_up()
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def catch_up(self) -> None:
        """Read what has been added since."""
        with speaking(self._broker):
            for records in read_to_end(self._consumer, self._broker, self._part):
                for record in records:
                    self._users.take(record.key, record.value)
                    if record.value is None:
                        self.since.pop(record.key, None)
                    elif record.key != SUPPRESSED_END:
                        self.since.setdefault(record.key, record.timestamp / 1000)
        self._users.asked = True


def change(configuration: Configuration, users: Iterable[str], *, lift: bool) -> int:
    """List users, or lift their suppression; returns how many. In force for every event that comes from now on."""
    topic, digests = configuration.topics.suppressed, configuration.suppression.users.digests
    value = orjson.dumps({"v": VERSION})
    listed = list(users)
    keys = {key for user in listed for key in digests(user)}
    with Sending(configuration.settings.broker) as sending:
        for key in sorted(keys):
            sending.send(topic, key, None if lift else value, 0)
        sending.send(topic, SUPPRESSED_END, value, 0)
        sending.confirm()
    time.sleep(SETTLED)
    return len(set(map(comparable, listed)))
