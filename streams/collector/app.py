"""The collector's ASGI app: authenticate requests, enforce limits, and send responses."""

from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from streams.clock import time
from streams.collector import api, browsers, intake, pixel
from streams.collector.api import Action, Target
from streams.collector.auth import Authenticator, check_origin
from streams.collector.body import Body, DisconnectedError, HeldBytes, read_body
from streams.collector.errors import RequestError, report_failure
from streams.collector.event_requests import (
    EventRequest,
    EventRequests,
    answer_taken,
    asks_for_privacy,
    trace,
    unconfirmed,
)
from streams.collector.first_party import Script
from streams.collector.responses import SUCCESS, Responder
from streams.collector.settings import CollectorSettings
from streams.kafka.acks import PendingAcks
from streams.kafka.producer import Producer
from streams.kafka.settings import BrokerError
from streams.observability import metrics
from streams.parsing.times import rfc3339
from streams.sources.source import Source, Sources
from streams.topics import Topics

READY_TIMEOUT = 2.0
"""Timeout for Kafka when `/ready` is requested."""

_CODES = {404: "not_found", 405: "method_not_allowed"}


class App:
    """The collector's ASGI app. It returns 200 only after Kafka has confirmed every record of the request."""

    def __init__(
        self, settings: CollectorSettings, sources: Callable[[], Sources], topics: Topics, producer: Producer
    ) -> None:
        self._settings = settings
        self._sources = sources
        self._producer = producer
        self._senders = Authenticator(settings, sources)
        self.held = HeldBytes(settings.held_bytes, producer)
        self.events = EventRequests(settings, topics, producer, self._senders, self.held)
        self.responder = Responder(self._senders, settings.cookie_domain)
        self._intake = self.events.intake
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
        result: bytes | RequestError
        try:
            result = await self._take_any(target, hook, scope, asked, receive)
        except DisconnectedError:
            return
        except RequestError as error:
            result = error
        except BaseException as error:  # noqa: BLE001  # uvicorn would log its text, which can quote an event
            result = report_failure(scope["path"], error)
        image = (pixel.GIF, pixel.HEADERS) if target is not None and target.action is Action.PIXEL else None
        response = self.responder.respond(result, asked, scope.get("scheme", "http"), image)
        await send(
            {"type": "http.response.start", "status": response.status, "headers": list(response.headers)},
        )
        await send({"type": "http.response.body", "body": response.body})
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
        return await self._take(target, scope, receive)

    async def _take(self, target: Target, scope: Scope, receive: Receive) -> bytes:
        """Take the events of a request and return the response JSON; raises RequestError."""
        if target.action is Action.METRICS:
            return SUCCESS
        request = EventRequest(self.events, target, scope["headers"], scope.get("query_string", b""), _peer(scope))
        request.open()
        acks = PendingAcks()
        request.take(await read_body(request.body, receive), acks)
        await self._confirm(acks)
        return request.succeed()

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
        context = intake.RequestContext(source, rfc3339(time()), acks, trace=trace(headers))
        taken, refused = self._intake.take_deliveries(deliveries, made, context)
        await self._confirm(acks)
        return answer_taken(sender, taken, refused)

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
                address=self._senders.visitor(_peer(scope), scope["headers"]),
                gpc=asks_for_privacy(headers),
                trace=trace(headers),
            )
            self._intake.take_event(event, kind, context)
            await self._confirm(acks)
            sender.accepted.inc()
        return pixel.GIF

    async def _read(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        return await read_body(Body(headers, self._settings.body_bytes, self.held), receive)

    async def _confirm(self, acks: PendingAcks) -> None:
        try:
            await acks.confirmed(self._settings.confirm_timeout)
        except (BrokerError, TimeoutError):
            raise unconfirmed() from None

    async def _answer_ready(self, _request: Request) -> Response:
        if await self._producer.reachable(READY_TIMEOUT):
            return _answer(200, {"status": "ready"})
        return _answer(503, {"code": "not_ready", "message": "Kafka does not answer"})


def _peer(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else ""


def _answer(status: int, content: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, "application/json")


async def _answer_health(_request: Request) -> Response:
    return _answer(200, {"status": "up"})


async def _answer_http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # Starlette types exception handlers for any Exception.
    return _answer(
        error.status_code, {"code": _CODES.get(error.status_code, "http"), "message": error.detail}, error.headers
    )
