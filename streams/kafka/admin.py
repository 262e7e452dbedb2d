"""Create topics, and compare the declared topics with the broker's."""

import socket
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from streams.kafka.settings import Broker, BrokerError
from streams.plurals import counted
from streams.topics import Topic

REACH_SECONDS = 3.0
"""Seconds without a response after which Kafka is reported as unreachable."""

REFUSED_SECONDS = 1.0
"""Seconds for which a refused connection, or a name that does not resolve, is retried."""

RECONNECT_SECONDS = 0.2
DEFAULT_PORT = 9092


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A declared topic that is missing (`partitions` is None), or has a different number of partitions."""

    topic: Topic
    partitions: int | None

    def __str__(self) -> str:
        if self.partitions is None:
            return f"topic {self.topic.name} is missing"
        found = counted(self.partitions, "partition")
        return f"topic {self.topic.name} has {found}, but {self.topic.partitions} are declared"


class TopicIdentity(NamedTuple):
    """The ID that Kafka gave a topic when it was created, and its number of partitions."""

    id: str
    partitions: int


def check_reachable(broker: Broker, seconds: float = REACH_SECONDS) -> None:
    """Raise BrokerError unless Kafka, and a broker that it advertises, answer within `seconds`; blocking."""
    import kafka.admin  # noqa: F401  # outside the time limit

    attempt = _Attempt(broker, seconds)
    # A name look-up has no time-out of its own.
    thread = threading.Thread(target=attempt.run, daemon=True)
    thread.start()
    thread.join(seconds + RECONNECT_SECONDS)
    if attempt.problem:
        raise BrokerError(f"cannot reach Kafka at {broker.bootstrap}: {attempt.problem}")


class _Attempt:
    """An attempt to reach Kafka; `problem` describes how far it got, and is None if it succeeded."""

    def __init__(self, broker: Broker, seconds: float) -> None:
        self._broker, self._seconds = broker, seconds
        self._deadline = time.monotonic() + seconds
        self.problem: str | None = f"the host name is not resolved within {seconds:g} s"

    def run(self) -> None:
        """Connect until a server accepts, then send requests to it and to a broker that it advertises."""
        from kafka.errors import KafkaTimeoutError

        give_up = min(self._deadline, time.monotonic() + REFUSED_SECONDS)
        while problem := self._connect():
            self.problem = problem
            if time.monotonic() + RECONNECT_SECONDS > give_up:
                return
            time.sleep(RECONNECT_SECONDS)
        self.problem = f"it accepts connections, but does not answer within {self._seconds:g} s"
        try:
            with AdminConnection(self._broker, self._deadline - time.monotonic()) as admin:
                self.problem = "it answers, but the brokers that it advertises (advertised.listeners) do not"
                admin.describe_topics([])
        except BrokerError as error:
            if not isinstance(error.__cause__, KafkaTimeoutError):
                self.problem = f"{self.problem} ({error.__cause__})"
        else:
            self.problem = None

    def _connect(self) -> str | None:
        """Return why no server accepts a connection; None if one does."""
        problems = []
        for server in self._broker.servers:
            try:
                address = urlsplit(f"//{server}")
                left = max(RECONNECT_SECONDS, self._deadline - time.monotonic())
                socket.create_connection((address.hostname, address.port or DEFAULT_PORT), left).close()
            except (OSError, ValueError) as error:
                problems.append(getattr(error, "strerror", None) or str(error))
            else:
                return None
        return "; ".join(dict.fromkeys(problems))


def find_partitions(broker: Broker, topics: Iterable[Topic], timeout: float = 10.0) -> dict[str, int]:
    """Return the number of partitions of each of these topics that exists, by name.

    Blocking. Raises BrokerError if Kafka does not respond within `timeout` seconds.
    """
    with AdminConnection(broker, timeout) as admin:
        return _partitions(admin, topics)


def find_identities(broker: Broker, topics: Iterable[str], timeout: float = 10.0) -> dict[str, TopicIdentity]:
    """Return the identity of each of these topics that exists, by name.

    Blocking. Raises BrokerError if Kafka does not respond within `timeout` seconds.
    """
    with AdminConnection(broker, timeout) as admin:
        return {
            found["name"]: TopicIdentity(str(found.get("topic_id")), len(found["partitions"]))
            for found in admin.describe_topics(sorted(topics))
            if not found.get("error_code")
        }


def find_mismatches(broker: Broker, topics: Sequence[Topic], timeout: float = 10.0) -> list[Mismatch]:
    """Compare the declared topics with those in Kafka.

    Blocking. Raises BrokerError if Kafka does not respond within `timeout` seconds.
    """
    return compare_topics(topics, find_partitions(broker, topics, timeout))


def compare_topics(topics: Iterable[Topic], existing: Mapping[str, int]) -> list[Mismatch]:
    """Compare the declared topics with the number of partitions of those that exist."""
    return [
        Mismatch(topic, existing.get(topic.name))
        for topic in topics
        if topic.name not in existing or topic.partitions not in (None, existing[topic.name])
    ]


def find_retention(broker: Broker, topics: Iterable[str], timeout: float = 10.0) -> dict[str, float | None]:
    """Return for how many seconds Kafka keeps the records of each of these topics; None for no limit in time.

    A topic is left out if Kafka does not report its retention; the embedded broker never does. Blocking. Raises
    BrokerError if Kafka does not answer.
    """
    if not broker.idempotent:
        return {}  # the embedded broker closes the connection
    from kafka.admin import ConfigResource

    found: dict[str, float | None] = {}
    with AdminConnection(broker, timeout) as admin:
        resources = [ConfigResource("TOPIC", name, configs=["retention.ms"]) for name in topics]
        answer = admin.describe_configs(resources, config_filter="all") if resources else {}
    for by_name in answer.values():
        for name, configs in by_name.items():
            with suppress(KeyError, TypeError, ValueError):
                milliseconds = int(configs["retention.ms"]["value"])
                found[name] = milliseconds / 1000 if milliseconds >= 0 else None
    return found


def create_topics(broker: Broker, topics: Sequence[Topic], replication: int, timeout: float = 10.0) -> None:
    """Create the topics that do not exist, and wait until the broker lists them.

    External topics, which are declared without a number of partitions, are not created. Blocking. Raises BrokerError.
    """
    from kafka.admin import NewTopic
    from kafka.errors import TopicAlreadyExistsError

    # Records are accepted while one replica is down, and acknowledged records are on more than one disk.
    safe = {"min.insync.replicas": str(max(1, replication - 1))}
    topics = [topic for topic in topics if topic.partitions is not None]
    with AdminConnection(broker, timeout) as admin:
        for topic in topics:
            config = {**topic.config, **safe}
            try:
                admin.create_topics([NewTopic(topic.name, topic.partitions, replication, topic_configs=config)])
            except TopicAlreadyExistsError:
                continue
        deadline = time.monotonic() + timeout
        # Kafka responds before all of its nodes have the topic.
        while len(_partitions(admin, topics)) < len(topics):
            if time.monotonic() > deadline:
                raise BrokerError(f"Kafka at {broker.bootstrap} does not list the topics that it created")
            time.sleep(0.05)


def _partitions(admin: Any, topics: Iterable[Topic]) -> dict[str, int]:
    return {
        found["name"]: len(found["partitions"])
        for found in admin.describe_topics([topic.name for topic in topics])
        if not found.get("error_code")
    }


class AdminConnection:
    """kafka-python's admin client for a `with` block; raises its errors as BrokerError."""

    def __init__(self, broker: Broker, timeout: float) -> None:
        self.broker, self.timeout = broker, timeout

    def __enter__(self) -> Any:
        from kafka.admin import KafkaAdminClient
        from kafka.errors import KafkaError

        milliseconds = int(self.timeout * 1000)
        try:
            self.admin = KafkaAdminClient(
                **self.broker.client(), request_timeout_ms=milliseconds, bootstrap_timeout_ms=milliseconds
            )
        except (KafkaError, OSError, ValueError) as error:
            raise BrokerError(self._line(error)) from error
        return self.admin

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        from kafka.errors import KafkaError

        self.admin.close()
        if isinstance(error, KafkaError | OSError):
            raise BrokerError(self._line(error)) from error

    def _line(self, error: BaseException) -> str:
        return f"Kafka at {self.broker.bootstrap} does not answer: {type(error).__name__}: {error}".splitlines()[0]
