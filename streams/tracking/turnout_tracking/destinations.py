"""Send events to an HTTP collector, or directly to Kafka."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from importlib.util import find_spec
from time import time
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

import orjson

from turnout_tracking.records import event_headers, events_topic

_MAX_RESPONSE_BYTES = 1024 * 1024
_RETRY_STATUSES = frozenset((408, 425, 429))
_LOST = (ConnectionError, HTTPException)


class Item(NamedTuple):
    """One event: the key of its Kafka record, and its JSON."""

    key: bytes
    value: bytes


class SendResult(NamedTuple):
    """The result of sending a batch; `reason` is for the log, and contains no event data.

    `again` are the items to send again, after `after` seconds (None: the sender chooses). `refused` is the number of
    items that were rejected permanently.
    """

    again: Sequence[Item] = ()
    after: float | None = None
    refused: int = 0
    reason: str = ""


class Connection(Protocol):
    """A connection to a destination, used by one thread."""

    def send(self, items: Sequence[Item]) -> SendResult:
        """Send items. Blocks, and never raises the destination's errors."""


class Destination(Protocol):
    """A destination of events."""

    def open(self) -> Connection:
        """Return a connection for the calling thread; it connects on the first send."""


class Collector:
    """A Segment-compatible HTTP collector.

    The standard library's client is enough: one thread sends one request at a time on one connection, and the sender
    retries, counts and stops at shutdown. A connection pool would not be used.
    """

    def __init__(self, url: str, write_key: str, timeout: float) -> None:
        """Raises ValueError if the URL is not an http or https URL, or the write key is missing."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise ValueError(f"the collector must be a URL such as https://events.example.com, not {url!r}")
        if not write_key:
            raise ValueError("write_key is required: the write key of a source")
        self._secure = parts.scheme == "https"
        self._address = (parts.hostname, parts.port)
        self._path = parts.path.rstrip("/") + "/v1/batch"
        self._headers = {
            "Authorization": "Basic " + b64encode(f"{write_key}:".encode()).decode(),
            "Content-Type": "application/json",
            "User-Agent": "turnout-tracking",
        }
        self._timeout = timeout

    def open(self) -> CollectorConnection:
        """Return a connection for one thread."""
        host, port = self._address
        http = (HTTPSConnection if self._secure else HTTPConnection)(host, port, timeout=self._timeout)
        return CollectorConnection(http, self._path, self._headers)


class Reply(NamedTuple):
    """A collector's response; `retry_after` in seconds."""

    status: int
    retry_after: float | None
    body: bytes

    @property
    def is_temporary(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status in _RETRY_STATUSES or self.status >= 500

    @property
    def refused(self) -> Sequence[Mapping[str, Any]]:
        """The events that were rejected from an accepted request: `index`, `code`, `message`."""
        try:
            rejected = orjson.loads(self.body).get("rejected")
        except (ValueError, AttributeError):
            return ()
        return rejected if isinstance(rejected, list) else ()

    @property
    def error(self) -> tuple[str, str]:
        """Code and message of a rejected request."""
        try:
            body = orjson.loads(self.body)
            return str(body["code"]), str(body["message"])
        except (ValueError, TypeError, KeyError):
            return "http", f"status {self.status}"


class CollectorConnection:
    """A connection to a collector."""

    def __init__(self, http: HTTPConnection, path: str, headers: dict[str, str]) -> None:
        self._http, self._path, self._headers = http, path, headers

    def send(self, items: Sequence[Item]) -> SendResult:
        """Send items, as `Connection.send`."""
        try:
            reply = self.post([item.value for item in items])
        except (OSError, HTTPException) as error:
            return SendResult(items, None, 0, type(error).__name__)
        if 200 <= reply.status < 300:
            refused = len(reply.refused)
            return SendResult(refused=refused, reason="the collector rejected some events" if refused else "")
        if reply.is_temporary:
            return SendResult(items, reply.retry_after, 0, f"status {reply.status}")
        return SendResult(refused=len(items), reason=f"the collector responded {reply.status}")

    def post(self, events: Sequence[bytes]) -> Reply:
        """Send encoded events as one batch; raises OSError or HTTPException without a response."""
        sent = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
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
            # The collector may have closed an idle connection. Other errors would occur again on a new one.
            self._http.close()
            if not reused:
                raise
            response = self._request(body)
        body = response.read(_MAX_RESPONSE_BYTES)
        if not response.isclosed():
            self._http.close()
        return Reply(response.status, _seconds(response.getheader("Retry-After")), body)

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
    """Turnout's events topic, without a collector in between; needs `pip install 'turnout-tracking[kafka]'`.

    `broker` is an address, host:port, or several with commas. `source` is the name of the source that the events belong
    to, `prefix` the prefix of the topics. kafka-python is imported with the first event.
    """

    broker: str
    source: str
    prefix: str = "turnout"
    timeout: float = 10.0
    """Seconds to wait for Kafka to confirm a batch."""
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Additional arguments for `kafka.KafkaProducer`, such as login and TLS."""

    def __post_init__(self) -> None:
        """Raises TypeError if `broker` is not an address, and ImportError without kafka-python."""
        if not isinstance(self.broker, str):
            raise TypeError(
                "Kafka's broker must be an address such as kafka-1:9092;"
                " pass login and TLS as options={'security_protocol': …}, the arguments of kafka.KafkaProducer"
            )
        if find_spec("kafka") is None:
            raise ImportError("kafka-python is not installed: pip install 'turnout-tracking[kafka]'")

    def open(self) -> _KafkaConnection:
        """Return a connection for one thread."""
        return _KafkaConnection(self)


class _KafkaConnection:
    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._topic = events_topic(kafka.prefix)
        self._headers = event_headers(kafka.source)
        self._producer: Any = None

    def send(self, items: Sequence[Item]) -> SendResult:
        from kafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError

        try:
            if self._producer is None:
                self._producer = self._connect()
            sent = [(item, self._producer.send(self._topic, item.value, item.key, self._headers)) for item in items]
            self._producer.flush(self._kafka.timeout)
        except KafkaError as error:
            return SendResult(items, None, 0, type(error).__name__)
        again, refused, reason = [], 0, ""
        for item, future in sent:
            if future.succeeded():
                continue
            failure = future.exception
            reason = type(failure).__name__ if failure else "no confirmation"
            if isinstance(failure, (MessageSizeTooLargeError, RecordListTooLargeError)):
                refused += 1
            else:
                again.append(item)
        return SendResult(again, None, refused, reason)

    def _connect(self) -> Any:
        from kafka import KafkaProducer

        milliseconds = int(self._kafka.timeout * 1000)
        return KafkaProducer(
            **{
                "bootstrap_servers": [address.strip() for address in self._kafka.broker.split(",")],
                "client_id": "turnout-tracking",
                "acks": "all",
                "enable_idempotence": True,
                "bootstrap_timeout_ms": milliseconds,
                "max_block_ms": milliseconds,
                **self._kafka.options,
            }
        )
