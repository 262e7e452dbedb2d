"""Where events go: an HTTP collector, or Kafka directly."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from time import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import urlsplit

import orjson

if TYPE_CHECKING:
    from streams.broker import Broker

_ANSWER_BYTES = 1024 * 1024
_RETRY_STATUSES = frozenset((408, 425, 429))
_LOST = (ConnectionError, HTTPException)


class Item(NamedTuple):
    """One event: the key of its record, and its JSON."""

    key: bytes
    value: bytes


class Answer(NamedTuple):
    """What became of some items: those to send `again`, after so many seconds if that was said, and how many were
    refused for good. `reason` is for the log, and quotes nothing of an event.
    """

    again: Sequence[Item] = ()
    after: float | None = None
    refused: int = 0
    reason: str = ""


class Connection(Protocol):
    """An open way to a destination, used by one thread."""

    def send(self, items: Sequence[Item]) -> Answer:
        """Send these; blocking, and raising nothing that is the destination's doing."""


class Destination(Protocol):
    """A place that events go to."""

    def open(self) -> Connection:
        """A connection for the thread that calls this; connects when it first sends."""


class Collector:
    """A Segment-compatible HTTP collector.

    The standard library's client is enough here: one thread sends one request at a time on one connection, and retries
    are the sender's, which counts them and bounds them at shutdown. A pool and its retries would lie idle.
    """

    def __init__(self, url: str, write_key: str, timeout: float) -> None:
        """Raises ValueError where the URL is none of http or https, or there is no write key."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise ValueError(f"the collector is given by its URL, https://events.example.com, and not {url!r}")
        if not write_key:
            raise ValueError("a collector wants the write key of a source")
        self._secure = parts.scheme == "https"
        self._address = (parts.hostname, parts.port)
        self._path = parts.path.rstrip("/") + "/v1/batch"
        self._headers = {
            "Authorization": "Basic " + b64encode(f"{write_key}:".encode()).decode(),
            "Content-Type": "application/json",
            "User-Agent": "turnout-tracking",
        }
        self._timeout = timeout

    def open(self) -> "CollectorConnection":
        """A connection for one thread."""
        host, port = self._address
        http = (HTTPSConnection if self._secure else HTTPConnection)(host, port, timeout=self._timeout)
        return CollectorConnection(http, self._path, self._headers)


class Reply(NamedTuple):
    """What a collector answered; `retry_after` in seconds."""

    status: int
    retry_after: float | None
    body: bytes

    @property
    def is_temporary(self) -> bool:
        """Whether the same request may be taken later."""
        return self.status in _RETRY_STATUSES or self.status >= 500

    @property
    def refused(self) -> Sequence[Mapping[str, Any]]:
        """The events that were refused from a request that was taken: `index`, `code`, `message`."""
        try:
            rejected = orjson.loads(self.body).get("rejected")
        except (ValueError, AttributeError):
            return ()
        return rejected if isinstance(rejected, list) else ()

    @property
    def complaint(self) -> tuple[str, str]:
        """Code and message of a request that was not taken."""
        try:
            answer = orjson.loads(self.body)
            return str(answer["code"]), str(answer["message"])
        except (ValueError, TypeError, KeyError):
            return "http", f"status {self.status}"


class CollectorConnection:
    """An open way to a collector."""

    def __init__(self, http: HTTPConnection, path: str, headers: dict[str, str]) -> None:
        self._http, self._path, self._headers = http, path, headers

    def send(self, items: Sequence[Item]) -> Answer:
        """As Connection."""
        try:
            reply = self.post([item.value for item in items])
        except (OSError, HTTPException) as error:
            return Answer(items, None, 0, type(error).__name__)
        if 200 <= reply.status < 300:
            refused = len(reply.refused)
            return Answer(refused=refused, reason="the collector refused single events" if refused else "")
        if reply.is_temporary:
            return Answer(items, reply.retry_after, 0, f"status {reply.status}")
        return Answer(refused=len(items), reason=f"the collector answered {reply.status}")

    def post(self, events: Sequence[bytes]) -> Reply:
        """Send events, each its JSON, as one batch; raises OSError or HTTPException where no answer comes."""
        sent = datetime.now(UTC).isoformat(timespec="milliseconds")
        try:
            return self._post(b'{"batch":[%b],"sentAt":"%b"}' % (b",".join(events), sent.encode()))
        except (OSError, HTTPException):
            self._http.close()
            raise

    def _post(self, body: bytes) -> Reply:
        reused = self._http.sock is not None
        try:
            response = self._request(body)
        except _LOST:
            # The collector may have closed a connection that lay idle; anything else comes back on a new one.
            self._http.close()
            if not reused:
                raise
            response = self._request(body)
        answer = response.read(_ANSWER_BYTES)
        if not response.isclosed():
            self._http.close()
        return Reply(response.status, _seconds(response.getheader("Retry-After")), answer)

    def _request(self, body: bytes) -> HTTPResponse:
        self._http.request("POST", self._path, body, self._headers)
        return self._http.getresponse()


def _seconds(retry_after: str | None) -> float | None:
    if not retry_after:
        return None
    if retry_after.strip().isdigit():
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time())
    except (ValueError, OverflowError):
        return None


@dataclass(frozen=True)
class Kafka:
    """Turnout's events topic, without a collector between.

    `broker` is an address, host:port, or a `streams.broker.Broker` where a login or TLS is wanted; `source` the name of
    the source that the events are of; `prefix` that of the topics. kafka-python is imported with the first event.
    """

    broker: "Broker | str"
    source: str
    prefix: str = "turnout"
    timeout: float = 10.0
    """Seconds that Kafka has to confirm a batch."""

    def open(self) -> "_KafkaConnection":
        """A connection for one thread."""
        return _KafkaConnection(self)


class _KafkaConnection:
    def __init__(self, kafka: Kafka) -> None:
        from streams.topics import Topics, event_headers

        self._kafka = kafka
        self._topic = Topics(kafka.prefix).events
        self._headers = event_headers(kafka.source)
        self._producer: Any = None

    def send(self, items: Sequence[Item]) -> Answer:
        from kafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError

        try:
            if self._producer is None:
                self._producer = self._connect()
            sent = [(item, self._producer.send(self._topic, item.value, item.key, self._headers)) for item in items]
            self._producer.flush(self._kafka.timeout)
        except KafkaError as error:
            return Answer(items, None, 0, type(error).__name__)
        again, refused, reason = [], 0, ""
        for item, future in sent:
            if future.succeeded():
                continue
            failure = future.exception
            reason = type(failure).__name__ if failure else "no confirmation"
            if isinstance(failure, MessageSizeTooLargeError | RecordListTooLargeError):
                refused += 1
            else:
                again.append(item)
        return Answer(again, None, refused, reason)

    def _connect(self) -> Any:
        from kafka import KafkaProducer

        from streams.broker import Broker

        given = self._kafka.broker
        broker = Broker(bootstrap=given) if isinstance(given, str) else given
        milliseconds = int(self._kafka.timeout * 1000)
        return KafkaProducer(
            **broker.client(),
            client_id="turnout-tracking",
            acks="all",
            enable_idempotence=broker.idempotent,
            bootstrap_timeout_ms=milliseconds,
            max_block_ms=milliseconds,
        )
