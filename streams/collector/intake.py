"""From a request's JSON to records: parsed, merged, checked, appended to the producer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import structlog

from streams import events
from streams.collector import slices
from streams.collector.errors import RequestError
from streams.collector.partition import make_partitioner
from streams.collector.settings import CollectorSettings
from streams.events import EventError
from streams.produce import Producer, RecordTooLargeError, Waiter
from streams.sources import Source
from streams.topics import Headers, Topics, event_headers, rejected_headers

log = structlog.get_logger()

ADDED_BYTES = 128
"""What `sentAt` and `receivedAt` add to an event; a sender that keeps the limit cannot know of them."""


@dataclass(frozen=True, slots=True)
class Refused:
    """One event of a batch that is none: its place in the batch, and why."""

    index: int
    message_id: str | None
    code: str
    message: str

    def answer(self) -> dict[str, Any]:
        """What the sender is told."""
        return {"index": self.index, "messageId": self.message_id, "code": self.code, "message": self.message}


@dataclass(frozen=True, slots=True)
class _Shared:
    """What the events of one request have in common. An event's own keys win, but for `receivedAt`."""

    received: str
    headers: Headers
    sent: Any = None
    context: Mapping[str, Any] | None = None
    integrations: Mapping[str, Any] | None = None
    kind: str | None = None
    anonymous: str | None = None

    def merge_into(self, event: dict[str, Any]) -> None:
        if self.kind is not None and event.get("type") is None:
            event["type"] = self.kind
        if self.anonymous and event.get("anonymousId") is None and event.get("userId") is None:
            event["anonymousId"] = self.anonymous
        if self.context:
            _merge(event, "context", self.context)
        if self.integrations:
            _merge(event, "integrations", self.integrations)
        if self.sent is not None and event.get("sentAt") is None:
            event["sentAt"] = self.sent
        event["receivedAt"] = self.received


def _merge(event: dict[str, Any], name: str, shared: Mapping[str, Any]) -> None:
    own = event.get(name)
    if own is None:
        event[name] = shared
    elif isinstance(own, dict):
        event[name] = {**shared, **own}


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

    def take_event(
        self,
        event: dict[str, Any],
        kind: str,
        source: Source,
        received: str,
        waiter: Waiter,
        anonymous: str | None = None,
    ) -> None:
        """Append the one event of a request to /v1/`kind`; raises RequestError when it is none.

        `anonymous` is the anonymousId of an event that names nobody, here and in a batch.
        """
        try:
            self._take(event, _Shared(received, event_headers(source.name), kind=kind, anonymous=anonymous), waiter)
        except EventError as error:
            raise RequestError(400, error.code, str(error)) from None

    def take_batch(
        self,
        raw: bytes,
        body: dict[str, Any],
        source: Source,
        received: str,
        waiter: Waiter,
        anonymous: str | None = None,
    ) -> tuple[int, list[Refused]]:
        """Append the events of a batch, and what is none to `rejected` as it stands in `raw`.

        Returns how many events were taken, and those refused. Raises RequestError when the batch itself is none.
        """
        batch = self._check_batch(raw, body)
        shared = _Shared(
            received,
            event_headers(source.name),
            body.get("sentAt"),
            body.get("context"),
            body.get("integrations"),
            anonymous=anonymous,
        )
        refused = []
        for index, event in enumerate(batch):
            try:
                self._take(event, shared, waiter)
            except EventError as error:
                refused.append(Refused(index, _message_id(event), error.code, str(error)))
        if refused:
            self._reject(raw, refused, source, waiter)
        return len(batch) - len(refused), refused

    def _take(self, event: Any, shared: _Shared, waiter: Waiter) -> None:
        if isinstance(event, EventError):
            raise event
        if isinstance(event, dict):
            shared.merge_into(event)
        events.check(event)
        try:
            value = orjson.dumps(event)
        except TypeError:
            # orjson reads 1,024 levels, and writes 254.
            raise EventError("too_deep", "", "nested too deeply") from None
        if len(value) > self._largest:
            raise self._too_large()
        key = events.key(event)
        try:
            self._producer.append(
                self._events, self._partition(key), waiter, key=key, value=value, headers=shared.headers
            )
        except RecordTooLargeError:
            raise self._too_large() from None

    def _too_large(self) -> EventError:
        return EventError("too_large", "", f"the event is over {self._settings.event_bytes} bytes")

    def _check_batch(self, raw: bytes, body: Mapping[str, Any]) -> list[Any]:
        batch = body.get("batch")
        if not isinstance(batch, list):
            raise RequestError(400, "no_batch", "batch: must be a list of events")
        if len(batch) > self._settings.batch_events:
            raise RequestError(
                400,
                "too_many_events",
                f"batch: {len(batch)} events, and at most {self._settings.batch_events} are taken",
            )
        grown = len(raw)
        for name in ("context", "integrations"):
            shared = body.get(name)
            if shared is not None and not isinstance(shared, dict):
                raise RequestError(400, "bad_batch", f"{name}: must be an object")
            if shared:
                grown += len(batch) * len(orjson.dumps(shared))
        if grown > self._settings.body_bytes:
            raise RequestError(
                413,
                "too_large",
                f"with its context in each event the batch is over {self._settings.body_bytes} bytes",
            )
        return batch

    def _reject(self, raw: bytes, refused: Sequence[Refused], source: Source, waiter: Waiter) -> None:
        texts = slices.elements(slices.members(raw)["batch"])
        self._rejected_partition = (self._rejected_partition + 1) % self._topics.partitions
        for event in refused:
            headers = rejected_headers(event.code, event.message, source.name)
            text = texts[event.index]
            try:
                self._producer.append(
                    self._topics.rejected, self._rejected_partition, waiter, key=None, value=text, headers=headers
                )
            except RecordTooLargeError:
                log.warning("a refused event is too large to keep", source=source.name, bytes=len(text))


def parse(raw: bytes, *, by_event: bool) -> dict[str, Any]:
    """The JSON object in a body; raises RequestError.

    With `by_event` an EventError stands in the place of an event of a batch that is no JSON (a lone surrogate, NaN, too
    deep). Looking for it may take 0.3 µs a byte, so it is for those whose write key is known already.
    """
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        wrong = RequestError(400, "json", f"the body is not JSON: {error}")
        if not by_event:
            raise wrong from None
        try:
            body = _parse_parts(raw)
        except ValueError:
            raise wrong from None
    if not isinstance(body, dict):
        raise RequestError(400, "not_an_object", "the body must be a JSON object")
    return body


def _parse_parts(raw: bytes) -> dict[str, Any]:
    parts = slices.members(raw)
    batch = slices.elements(parts.pop("batch", b""))
    return {name: orjson.loads(value) for name, value in parts.items()} | {"batch": [_parse_event(e) for e in batch]}


def _parse_event(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return EventError("json", "", f"not JSON: {error}")


def _message_id(event: Any) -> str | None:
    given = event.get("messageId") if isinstance(event, dict) else None
    return given if isinstance(given, str) and len(given) <= 255 else None
