"""The collector's ASGI app: authenticate requests, enforce limits, and send responses."""

import base64
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any
from urllib.parse import parse_qs

import orjson
import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from streams.clock import time
from streams.collector import api, browsers, intake, json_slices, pixel
from streams.collector.api import Action, Target
from streams.collector.auth import AuthenticatedSource, Authenticator, check_origin
from streams.collector.body import DisconnectedError, read_body
from streams.collector.browsers import Headers
from streams.collector.errors import RequestError
from streams.collector.first_party import Script, renew_ids
from streams.collector.settings import CollectorSettings
from streams.kafka.acks import PendingAcks
from streams.kafka.producer import Producer
from streams.kafka.settings import BrokerError
from streams.observability import metrics
from streams.observability.internal_error import to_exception
from streams.observability.logging import error_fields
from streams.parsing import lenient_json
from streams.parsing.times import rfc3339
from streams.records.event import valid_trace
from streams.sources.source import Source, Sources
from streams.topics import Topics

log = structlog.get_logger()

READY_TIMEOUT = 2.0
"""Timeout for Kafka when `/ready` is requested."""

_SUCCESS = b'{"success":true}'
_FAILED = RequestError("internal", "the collector failed; see its log")
_CODES = {404: "not_found", 405: "method_not_allowed"}

# A new partition leader is usually elected within seconds.
_RETRY = ((b"retry-after", b"5"),)


class App:
    """The collector's ASGI app. It returns 200 only after Kafka has confirmed every record of the request."""

    def __init__(
        self, settings: CollectorSettings, sources: Callable[[], Sources], topics: Topics, producer: Producer
    ) -> None:
        self._settings = settings
        self._sources = sources
        self._producer = producer
        self._intake = intake.Intake(settings, topics, producer)
        self._senders = Authenticator(settings, sources)
        self._read_bytes = 0
        self._other = Starlette(
            routes=[
                Route(api.HEALTH, _answer_health, methods=list(api.methods(api.HEALTH))),
                Route(api.READY, self._answer_ready, methods=list(api.methods(api.READY))),
                *browsers.routes(self._senders, cookies=settings.cookie_domain is not None),
                *([Route(settings.client.path, Script(settings.client.file).answer)] if settings.client else []),
            ],
            exception_handlers={HTTPException: _answer_http_error},
        )
        self._other.router.redirect_slashes = False
        metrics.COLLECTOR_UNCONFIRMED.set_function(lambda: producer.unconfirmed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        target = api.PATHS.get(scope["path"])
        hook = None
        if target is None:
            scope = {**scope, "path": api.clean(scope["path"])}
            target = api.PATHS.get(scope["path"])
            hook = self._sources().by_path(scope["path"])
        if target is None and hook is None:
            await self._other(scope, receive, send)
            return
        started = perf_counter()
        asked = dict(scope["headers"])
        origin = asked.get(api.ORIGIN)
        if origin is not None and scope["method"] == "OPTIONS":
            await browsers.answer_preflight(self._senders, origin, asked)(scope, receive, send)
            return
        headers: Headers = ()
        try:
            status, body = 200, await self._take_any(target, hook, scope, asked, receive)
        except DisconnectedError:
            return
        except RequestError as error:
            status, body, headers = error.status, error.body, error.headers
        except BaseException as error:  # noqa: BLE001  # uvicorn would log its text, which can quote an event
            log.error("request failed", path=scope["path"], **error_fields(to_exception(error)))  # noqa: TRY400
            status, body = 500, _FAILED.body
        if status != 200:
            metrics.COLLECTOR_ERRORS.labels(status).inc()
        if origin is not None and self._senders.allows(origin):
            headers += browsers.allow(origin)
            if status == 200 and self._settings.cookie_domain:
                secure = browsers.scheme(scope, asked) == "https"
                headers += renew_ids(asked, self._settings.cookie_domain, secure=secure)
        content_type = b"application/json"
        if target is not None and target.action is Action.PIXEL:
            content_type, body = b"image/gif", pixel.GIF
            headers += pixel.HEADERS
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [
                    (b"content-type", content_type),
                    (b"content-length", b"%d" % len(body)),
                    *headers,
                ],
            }
        )
        await send({"type": "http.response.body", "body": body})
        metrics.COLLECTOR_SECONDS.observe(perf_counter() - started)

    async def _take_any(
        self, target: Target | None, hook: Source | None, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive
    ) -> bytes:
        methods = target.methods if target is not None else ("POST",)
        if scope["method"] not in methods:
            raise RequestError(
                "method_not_allowed",
                f"the path supports {', '.join(methods)}",
                ((b"allow", ", ".join(methods).encode()),),
            )
        if hook is not None:
            return await self._take_webhook(hook, headers, receive)
        assert target is not None  # anything else was routed elsewhere
        if target.action is Action.PIXEL:
            return await self._take_pixel(target.kind, scope, headers, receive)
        return await self._take(target, scope, headers, receive)

    async def _take(self, target: Target, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        """Take the events of a request and return the response JSON; raises RequestError."""
        if target.action is Action.METRICS:
            return _SUCCESS
        sender = self._senders.by_headers(headers) or self._sender_in_query(scope)
        raw = lenient_json.without_mark(await self._read(headers, receive))
        try:
            body = intake.parse(raw)
        except RequestError:
            # Finding the invalid events is slow, so only requests with a valid write key get it.
            if sender is None and not any(map(self._senders.has_key, json_slices.write_keys(raw))):
                raise
            parsed = intake.parse_by_event(raw) if target.action is Action.BATCH else None
            if parsed is None:
                raise
            body = parsed
        if sender is None:
            sender = self._senders.by_key(body.get("writeKey"))
        source = sender.source
        check_origin(source, headers)
        acks = PendingAcks()
        context = intake.RequestContext(
            source,
            rfc3339(time()),
            acks,
            _anonymous_id(headers),
            self._senders.visitor(scope) if api.ORIGIN in headers else None,
            _asks_for_privacy(headers),
            _trace(headers),
        )
        refused: list[intake.RefusedEvent] = []
        if target.action is Action.BATCH:
            batch = self._intake.check_batch(raw, body, source)
            sender.allowance.take_events(len(batch))
            taken, refused = self._intake.take_batch(raw, body, batch, context)
        else:
            taken = 1
            sender.allowance.take_events(1)
            self._intake.take_event(body, target.kind, context)
        await self._confirm(acks)
        return _answer_taken(source, taken, refused)

    def _sender_in_query(self, scope: Scope) -> AuthenticatedSource | None:
        """Find the sender by the query string, where RudderStack's beacon puts the write key: it cannot set headers."""
        query: bytes = scope["query_string"]
        if not query:
            return None
        found = parse_qs(query.decode("latin-1")).get("writeKey")
        return self._senders.by_key(found[0]) if found else None

    async def _take_webhook(self, source: Source, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        """Take a webhook delivery and return the response JSON; raises RequestError."""
        sender = self._senders.by_webhook(source, headers)
        check_origin(source, headers)
        raw = await self._read(headers, receive)
        webhook = source.webhook
        assert webhook is not None
        if webhook.verify is not None and not webhook.verify(raw, headers, time()):
            raise RequestError("bad_signature", "the signature is missing, wrong or too old")
        deliveries = intake.read_deliveries(raw, webhook.headers_of(headers), self._settings.batch_events)
        made = [intake.make_events(webhook, delivery) for delivery in deliveries]
        sender.allowance.take_events(sum(map(len, made)))
        acks = PendingAcks()
        context = intake.RequestContext(source, rfc3339(time()), acks, trace=_trace(headers))
        taken, refused = self._intake.take_deliveries(deliveries, made, context)
        await self._confirm(acks)
        return _answer_taken(source, taken, refused)

    async def _take_pixel(
        self, kind: str | None, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive
    ) -> bytes:
        """Take the event in a pixel's query string or form; raises RequestError. The response is always the image."""
        parameters: bytes = scope["query_string"]
        if scope["method"] == "POST":
            parameters = b"&".join(filter(None, (parameters, await self._read(headers, receive))))
        event = pixel.read_event(parameters, headers)
        sender = self._senders.by_headers(headers) or self._senders.by_key(event.pop("writeKey", None))
        if scope["method"] != "HEAD":
            acks = PendingAcks()
            sender.allowance.take_events(1)
            context = intake.RequestContext(
                sender.source,
                rfc3339(time()),
                acks,
                address=self._senders.visitor(scope),
                gpc=_asks_for_privacy(headers),
                trace=_trace(headers),
            )
            self._intake.take_event(event, kind, context)
            await self._confirm(acks)
            metrics.COLLECTOR_ACCEPTED.labels(sender.source.name).inc()
        return pixel.GIF

    async def _read(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        held = 0

        def hold(size: int) -> None:
            nonlocal held
            held += size
            self._read_bytes += size
            if self._read_bytes + self._producer.unconfirmed > self._settings.held_bytes:
                raise RequestError("overloaded", "too many events wait for Kafka; send the request again later", _RETRY)

        try:
            return await read_body(headers, receive, self._settings.body_bytes, hold)
        finally:
            self._read_bytes -= held

    async def _confirm(self, acks: PendingAcks) -> None:
        try:
            await acks.confirmed(self._settings.confirm_timeout)
        except (BrokerError, TimeoutError):
            raise RequestError(
                "unconfirmed", "Kafka did not confirm the events; send the request again", _RETRY
            ) from None

    async def _answer_ready(self, _request: Request) -> Response:
        if await self._producer.reachable(READY_TIMEOUT):
            return _answer(200, {"status": "ready"})
        return _answer(503, {"code": "not_ready", "message": "Kafka does not answer"})


def _answer_taken(source: Source, taken: int, refused: Sequence[intake.RefusedEvent]) -> bytes:
    metrics.COLLECTOR_ACCEPTED.labels(source.name).inc(taken)
    if not refused:
        return _SUCCESS
    for event in refused:
        metrics.COLLECTOR_REFUSED.labels(event.code).inc()
    return orjson.dumps({"success": True, "rejected": [event.answer() for event in refused]})


def _anonymous_id(headers: Mapping[bytes, bytes]) -> str | None:
    """Return the ID in the `AnonymousId` header of RudderStack's browser client, decoded from base64."""
    given = headers.get(api.ANONYMOUS_ID)
    if given is None:
        return None
    try:
        return base64.b64decode(given, validate=True).decode()
    except ValueError:
        return given.decode("latin-1")


def _asks_for_privacy(headers: Mapping[bytes, bytes]) -> bool:
    """Return whether Global Privacy Control is on."""
    return headers.get(api.PRIVACY) == b"1"


def _trace(headers: Mapping[bytes, bytes]) -> bytes | None:
    return valid_trace(headers.get(api.TRACE))


def _answer(status: int, content: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, "application/json")


async def _answer_health(_request: Request) -> Response:
    return _answer(200, {"status": "up"})


async def _answer_http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # Starlette types exception handlers for any Exception.
    return _answer(
        error.status_code, {"code": _CODES.get(error.status_code, "http"), "message": error.detail}, error.headers
    )
