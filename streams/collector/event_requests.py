"""Process a request with events, from its head to the records that Kafka must confirm.

ASGI and the faster `direct.py` both use EventRequest; they differ only in how they receive and send bytes.
"""

import base64
from collections.abc import Mapping, Sequence

import orjson

from streams.clock import time
from streams.collector import api, intake, json_slices
from streams.collector.api import Action, Target
from streams.collector.auth import AuthenticatedSource, Authenticator, check_origin
from streams.collector.body import Body, HeldBytes
from streams.collector.errors import RETRY_SOON, RequestError
from streams.collector.intake import Intake, RefusedEvent, RequestContext
from streams.collector.responses import SUCCESS
from streams.collector.settings import CollectorSettings
from streams.kafka.acks import PendingAcks
from streams.kafka.producer import Producer
from streams.observability import metrics
from streams.parsing import lenient_json
from streams.parsing.times import rfc3339
from streams.records.event import valid_trace
from streams.topics import Topics


class EventRequests:
    """The settings and services that all requests with events use."""

    def __init__(
        self, settings: CollectorSettings, topics: Topics, producer: Producer, senders: Authenticator, held: HeldBytes
    ) -> None:
        self.body_bytes = settings.body_bytes
        self.intake = Intake(settings, topics, producer)
        self.senders = senders
        self.held = held


class EventRequest:
    """A request with events. Call `open`, then `body.add` for each part of its body, `take`, and `close`.

    When all records are confirmed, `succeed` returns the response's body.

    Args:
        shared: The settings and services of all requests.
        target: The path's handling.
        fields: The request's headers.
        query: Its query string.
        peer: The address of the client or proxy, "" if it has none.

    """

    __slots__ = ("_fields", "_peer", "_query", "_refused", "_sender", "_shared", "_taken", "_target", "body", "headers")

    body: Body

    def __init__(
        self, shared: EventRequests, target: Target, fields: Sequence[tuple[bytes, bytes]], query: bytes, peer: str
    ) -> None:
        self.headers = dict(fields)
        self._shared = shared
        self._target = target
        self._fields = fields
        self._query = query
        self._peer = peer
        self._sender: AuthenticatedSource | None = None
        self._taken = 0
        self._refused: Sequence[RefusedEvent] = ()

    def open(self) -> None:
        """Authenticate the sender, unless the write key is in the body; raises RequestError."""
        shared = self._shared
        self._sender = shared.senders.by_headers(self.headers) or shared.senders.by_query(self._query)
        self.body = Body(self.headers, shared.body_bytes, shared.held)

    def take(self, raw: bytes, acks: PendingAcks) -> None:
        """Append the events of the decompressed body; `acks` waits for their records. Raises RequestError."""
        shared, headers = self._shared, self.headers
        raw = lenient_json.without_mark(raw)
        body = self._parse(raw)
        sender = self._sender
        if sender is None:
            sender = self._sender = shared.senders.by_key(body.get("writeKey"))
        source = sender.source
        check_origin(source, headers)
        context = RequestContext(
            source,
            rfc3339(time()),
            acks,
            _anonymous_id(headers),
            shared.senders.visitor(self._peer, self._fields) if api.ORIGIN in headers else None,
            asks_for_privacy(headers),
            trace(headers),
        )
        if self._target.action is Action.BATCH:
            batch = shared.intake.check_batch(raw, body, source)
            sender.allowance.take_events(len(batch))
            self._taken, self._refused = shared.intake.take_batch(raw, body, batch, context)
        else:
            sender.allowance.take_events(1)
            shared.intake.take_event(body, self._target.kind, context)
            self._taken = 1

    def succeed(self) -> bytes:
        """Count the events, now that Kafka has confirmed them, and return the response's body."""
        assert self._sender is not None  # `take` raises without one
        return answer_taken(self._sender, self._taken, self._refused)

    def _parse(self, raw: bytes) -> dict[str, object]:
        try:
            return intake.parse(raw)
        except RequestError:
            # Finding the invalid events is slow, so only requests with a valid write key get it.
            if self._sender is None and not any(map(self._shared.senders.has_key, json_slices.write_keys(raw))):
                raise
            parsed = intake.parse_by_event(raw) if self._target.action is Action.BATCH else None
            if parsed is None:
                raise
            return parsed


def answer_taken(sender: AuthenticatedSource, taken: int, refused: Sequence[RefusedEvent]) -> bytes:
    """Count accepted and refused events, and return the response's body."""
    sender.accepted.inc(taken)
    if not refused:
        return SUCCESS
    for event in refused:
        metrics.COLLECTOR_REFUSED.labels(event.code).inc()
    return orjson.dumps({"success": True, "rejected": [event.answer() for event in refused]})


def unconfirmed() -> RequestError:
    """Make the error for events that Kafka refused, or did not confirm in time."""
    return RequestError("unconfirmed", "Kafka did not confirm the events; send the request again", RETRY_SOON)


def asks_for_privacy(headers: Mapping[bytes, bytes]) -> bool:
    """Return whether Global Privacy Control is on."""
    return headers.get(api.PRIVACY) == b"1"


def trace(headers: Mapping[bytes, bytes]) -> bytes | None:
    """Return the request's X-Turnout-Trace if it is valid."""
    return valid_trace(headers.get(api.TRACE))


def _anonymous_id(headers: Mapping[bytes, bytes]) -> str | None:
    """Return the ID in the `AnonymousId` header of RudderStack's browser client, decoded from base64."""
    given = headers.get(api.ANONYMOUS_ID)
    if given is None:
        return None
    try:
        return base64.b64decode(given, validate=True).decode()
    except ValueError:
        return given.decode("latin-1")
