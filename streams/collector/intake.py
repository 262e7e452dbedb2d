"""Parse a request's events, merge shared fields, check them, and append them to the producer."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import orjson
import structlog

from streams import events
from streams.collector import json_slices
from streams.collector.errors import RequestError
from streams.collector.settings import CollectorSettings
from streams.events import EventError
from streams.kafka.acks import PendingAcks
from streams.kafka.partition import make_partitioner
from streams.kafka.producer import Producer
from streams.parsing import lenient_json
from streams.parsing.times import read_time
from streams.records.event import event_headers, noted_header
from streams.records.format import Headers
from streams.records.rejected import rejected_headers
from streams.records.size import RecordTooLargeError
from streams.sources.source import Source
from streams.sources.webhooks import WebhookEndpoint, WebhookResult
from streams.topics import Topics

log = structlog.get_logger()

ADDED_BYTES = 192
"""Bytes that `sentAt`, `receivedAt` and Global Privacy Control add to an event, beyond the sender's limit."""

ID_BYTES = 64
"""Bytes that a messageId adds."""


SHARED = ("context", "integrations")
"""The fields of a batch that are merged into each of its events."""


@dataclass(frozen=True, slots=True)
class RefusedEvent:
    """An invalid event of a batch: its index, and why it was rejected."""

    index: int
    message_id: str | None
    code: str
    message: str

    def answer(self) -> dict[str, Any]:
        """Return the entry for the response."""
        return {"index": self.index, "messageId": self.message_id, "code": self.code, "message": self.message}


# Freezing would double the time to make one.
@dataclass(slots=True)
class RequestContext:
    """The context of a request's events: what they share, and the pending acks.

    An event's own fields win, except `receivedAt`. The intake sets the fields from `headers` on.

    Args:
        source: The events' source.
        received: Their `receivedAt`.
        acks: Waits for their records.
        anonymous: The anonymousId of events without any ID.
        address: The `context.ip` of events without one.
        gpc: Whether the request has Global Privacy Control on.
        trace: Its X-Turnout-Trace.
        headers: The headers of the events' records.
        kind: The type of events without one.
        sent: The batch's `sentAt`.
        context: Its `context`, with the address.
        integrations: Its `integrations`.
        notes: Notes about its fields.

    """

    source: Source
    received: str
    acks: PendingAcks
    anonymous: str | None = None
    address: str | None = None
    gpc: bool = False
    trace: bytes | None = None
    headers: Headers = field(init=False)
    kind: str | None = None
    sent: Any = None
    context: Mapping[str, Any] | None = None
    integrations: Mapping[str, Any] | None = None
    notes: Sequence[tuple[str, str]] = ()

    def __post_init__(self) -> None:
        self.headers = event_headers(self.source.name, self.trace)
        if self.address:
            self.context = {"ip": self.address}

    def merge_into(self, event: dict[str, Any]) -> None:
        """Complete an event with the shared fields."""
        if self.kind is not None and event.get("type") in (None, ""):
            event["type"] = self.kind
        if self.anonymous and all(map(events.is_absent_id, (event.get("anonymousId"), event.get("userId")))):
            event["anonymousId"] = self.anonymous
        if self.context:
            _merge(event, "context", self.context)
        if self.integrations:
            _merge(event, "integrations", self.integrations)
        if self.gpc:
            _keep_gpc(event)
        if self.sent is not None and _lacks_time(event.get("sentAt")):
            event["sentAt"] = self.sent
        event["receivedAt"] = self.received


def _merge(event: dict[str, Any], name: str, shared: Mapping[str, Any]) -> None:
    own = event.get(name)
    if own is None or own == []:
        event[name] = shared
    elif isinstance(own, dict):
        event[name] = {**shared, **own}


def _keep_gpc(event: dict[str, Any]) -> None:
    """Record Global Privacy Control in the event's consent. An invalid context is left unchanged and rejected later."""
    context = event.get("context")
    if context is None or context == [] or isinstance(context, dict):
        consent = (context or {}).get("consent")
        with_gpc = {**(consent if isinstance(consent, dict) else {}), "globalPrivacyControl": True}
        event["context"] = {**(context or {}), "consent": with_gpc}


def _lacks_time(value: object) -> bool:
    if value is None:
        return True
    try:
        return read_time(value) is None
    except ValueError:
        return True


class Intake:
    """Turns parsed requests into records of the topics `events` and `rejected`."""

    def __init__(self, settings: CollectorSettings, topics: Topics, producer: Producer) -> None:
        self._settings = settings
        self._topics = topics
        self._producer = producer
        self._events = topics.events
        self._largest = settings.event_bytes + ADDED_BYTES
        self._partition = make_partitioner(topics.partitions)
        self._rejected_partition = 0

    def take_event(self, event: dict[str, Any], kind: str | None, request: RequestContext) -> None:
        """Append the only event of a request, whose type is `kind` by default; raises RequestError if it is invalid."""
        request.kind = kind
        try:
            self._take(event, request)
        except EventError as error:
            raise RequestError.of_event(error) from None

    def take_batch(
        self, raw: bytes, body: dict[str, Any], batch: list[Any], request: RequestContext
    ) -> tuple[int, list[RefusedEvent]]:
        """Append the valid events of a checked batch to `events`, and the original text of invalid ones to `rejected`.

        Returns how many events were taken, and the rejected ones.
        """
        try:
            request.sent = read_time(body.get("sentAt"))
        except ValueError:
            request.notes = [("unreadable", "sentAt")]
        if context := body.get("context"):
            request.context = {**(request.context or {}), **context}
        request.integrations = body.get("integrations")
        refused = []
        for index, event in enumerate(batch):
            try:
                self._take(event, request)
            except EventError as error:
                refused.append(RefusedEvent(index, _message_id(event), error.code, str(error)))
        if refused:
            texts = json_slices.elements(json_slices.members(raw)["batch"])
            self._keep(texts, refused, request)
        return len(batch) - len(refused), refused

    def take_deliveries(
        self, deliveries: Sequence[bytes], made: Sequence[Sequence[WebhookResult]], request: RequestContext
    ) -> tuple[int, list[RefusedEvent]]:
        """Append the events made from a webhook's deliveries, and deliveries without a valid event to `rejected`.

        Returns how many events were taken, and the rejected ones by the index of their delivery.
        """
        taken = 0
        refused: dict[int, RefusedEvent] = {}
        for index, events_ in enumerate(made):
            for each in events_:
                if each.event is None:
                    continue
                try:
                    self._take(each.event, request)
                    taken += 1
                except EventError as error:
                    refused[index] = RefusedEvent(index, _message_id(each.event), error.code, str(error))
        if refused:
            self._keep({index: deliveries[index] for index in refused}, refused.values(), request)
        return taken, list(refused.values())

    def _take(self, event: Any, request: RequestContext) -> None:
        if isinstance(event, EventError):
            raise event
        if isinstance(event, dict):
            request.merge_into(event)
        notes = list(request.notes)
        events.normalize(event, lambda reason, detail: notes.append((reason, detail)))
        source = request.source
        if source.kinds:
            source.kinds.check(event)
        try:
            nameless = "messageId" not in event
            if nameless:
                event["messageId"] = events.make_message_id(event, uuid4().hex)
            value = orjson.dumps(event)
        except TypeError:
            # orjson reads 1,024 levels of nesting but writes only 254.
            raise EventError("too_deep", "", "nested too deeply") from None
        events.check_depth(event, source.limits.depth, events.count_brackets(value))
        headers = [*request.headers, noted_header(notes)] if notes else request.headers
        largest = min(self._largest, (source.limits.event_bytes or self._largest) + ADDED_BYTES)
        if len(value) - (ID_BYTES if nameless else 0) > largest:
            raise _too_large(largest - ADDED_BYTES)
        key = events.key(event)
        try:
            self._producer.append(
                self._events, self._partition(key), request.acks, key=key, value=value, headers=headers
            )
        except RecordTooLargeError:
            raise _too_large(largest - ADDED_BYTES) from None

    def check_batch(self, raw: bytes, body: dict[str, Any], source: Source) -> list[Any]:
        """Return the events of a batch; raises RequestError if the batch is invalid or exceeds a limit."""
        batch = body.get("batch")
        if not isinstance(batch, list):
            raise RequestError("no_batch", "batch: must be a list of events")
        limit = min(self._settings.batch_events, source.limits.batch_events or self._settings.batch_events)
        if len(batch) > limit:
            raise RequestError("too_many_events", f"batch: {len(batch)} events; the limit is {limit}")
        grown = len(raw)
        for name in SHARED:
            shared = body.get(name)
            if shared == []:
                shared = body[name] = {}
            if shared is not None and not isinstance(shared, dict):
                raise RequestError("bad_batch", f"{name}: must be an object")
            if shared:
                try:
                    grown += len(batch) * len(orjson.dumps(shared))
                except TypeError:
                    raise RequestError("bad_batch", f"{name}: nested too deeply") from None
        if grown > self._settings.body_bytes:
            raise RequestError(
                "too_large",
                f"the batch exceeds {self._settings.body_bytes} bytes with its context merged into each event",
            )
        return batch

    def _keep(
        self, texts: Sequence[bytes] | Mapping[int, bytes], refused: Iterable[RefusedEvent], request: RequestContext
    ) -> None:
        """Append rejected events to `rejected`; `texts` has their original text by index."""
        self._rejected_partition = (self._rejected_partition + 1) % self._topics.partitions
        for event in refused:
            headers = rejected_headers(event.code, event.message, request.source.name, trace=request.trace)
            text = texts[event.index]
            try:
                self._producer.append(
                    self._topics.rejected,
                    self._rejected_partition,
                    request.acks,
                    key=None,
                    value=text,
                    headers=headers,
                )
            except RecordTooLargeError:
                log.warning("rejected event is too large to store", source=request.source.name, bytes=len(text))


def read_deliveries(raw: bytes, headers: Mapping[str, str], limit: int) -> list[bytes]:
    """Return the deliveries in a webhook's body: one, or one per item of a list, at most `limit`; raises RequestError.

    Each is the text of an object with `headers` and `body`; the body of an item may be invalid JSON.
    """
    raw = lenient_json.without_mark(raw)
    try:
        body = events.loads(raw)
        parts = json_slices.elements(raw) if isinstance(body, list) else [raw]
    except EventError as error:
        try:
            parts = json_slices.elements(raw)
        except ValueError:
            raise RequestError("json", f"the body is {error}") from None
    if len(parts) > limit:
        raise RequestError("too_many_events", f"{len(parts)} deliveries; the limit is {limit}")
    named = orjson.dumps(headers)
    return [b'{"headers":%b,"body":%b}' % (named, part) for part in parts]


def make_events(webhook: WebhookEndpoint, delivery: bytes) -> list[WebhookResult]:
    """Apply a webhook's rules to a delivery; returns an error if the delivery cannot be read."""
    try:
        return list(webhook.make(events.loads(delivery)))
    except EventError as error:
        return [WebhookResult("", error)]


def parse(raw: bytes) -> dict[str, Any]:
    """Parse the JSON object in a body; raises RequestError."""
    try:
        body = events.loads(raw)
    except EventError as error:
        raise RequestError("json", f"the body is {error}") from None
    if not isinstance(body, dict):
        raise RequestError("not_an_object", "the body must be a JSON object")
    return body


def parse_by_event(raw: bytes) -> dict[str, Any] | None:
    """Parse a batch that contains invalid JSON: NaN, broken UTF-8, or too much nesting. None if it is not a batch.

    Each invalid event is replaced by an EventError. `context` and `integrations` of the batch must be valid, since they
    hold consent and opt-outs; other invalid fields count as absent. Takes up to 0.3 µs per byte. Raises RequestError.
    """
    try:
        parts = json_slices.members(raw)
        batch = json_slices.elements(parts.pop("batch"))
    except (KeyError, ValueError):
        return None
    body: dict[str, Any] = {"batch": [_parse_event(text) for text in batch]}
    for name, text in parts.items():
        try:
            body[name] = lenient_json.loads(text)
        except orjson.JSONDecodeError as error:
            if name in SHARED:
                raise RequestError("bad_batch", f"{name}: not JSON: {error}") from None
    return body


def _parse_event(text: bytes) -> Any:
    try:
        return events.loads(text)
    except EventError as error:
        return error


def _too_large(bytes_: int) -> EventError:
    return EventError("too_large", "", f"the event exceeds {bytes_} bytes")


def _message_id(event: Any) -> str | None:
    given = event.get("messageId") if isinstance(event, dict) else None
    return given if isinstance(given, str) and len(given) <= 255 else None
