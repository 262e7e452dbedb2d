"""Follow the list of suppressed users, for processes that query it often."""

from contextlib import ExitStack
from threading import Lock
from typing import NamedTuple

from deploy.config.configuration import Configuration
from streams.kafka.admin import check_reachable
from streams.parsing.times import rfc3339
from streams.suppression.admin import SuppressedList
from streams.suppression.filter import SuppressedUsers


class SuppressionState(NamedTuple):
    """Whether an ID is suppressed: since when in Kafka's list, and whether by the file named in turnout.yaml."""

    since: str | None
    in_file: bool


class Suppressions:
    """Reads the list once, and then only new records. Blocking; raises BrokerError."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._opened = ExitStack()
        self._list: SuppressedList | None = None
        self._users = SuppressedUsers()

    def find(self, configuration: Configuration, user: str) -> SuppressionState:
        """Return whether an ID is suppressed."""
        since = self._read(configuration)
        at = next((since[digest] for digest in self._users.digests(user) if digest in since), None)
        in_file = configuration.suppression.is_in_file(user)
        return SuppressionState(None if at is None else rfc3339(at), in_file)

    def newest(self, configuration: Configuration, number: int) -> tuple[int, list[tuple[str, str]]]:
        """Return the number of suppressed IDs, and the digests of the newest, each with its time."""
        since = self._read(configuration)
        rows = sorted(since.items(), key=lambda each: (-each[1], each[0]))[:number]
        return len(since), [(digest.decode(), rfc3339(at)) for digest, at in rows]

    def close(self) -> None:
        """Close the connection to Kafka."""
        with self._lock:
            self._forget()

    def _read(self, configuration: Configuration) -> dict[bytes, float]:
        with self._lock:
            broker = configuration.settings.broker
            try:
                if self._list is None:
                    check_reachable(broker)
                    self._users = SuppressedUsers(configuration.settings.suppression.secret)
                    listed = SuppressedList(broker, configuration.topics, self._users)
                    self._list = self._opened.enter_context(listed)
                else:
                    self._list.catch_up()
            except BaseException:
                self._forget()
                raise
            return dict(self._list.since)

    def _forget(self) -> None:
        self._list = None
        self._opened.close()
