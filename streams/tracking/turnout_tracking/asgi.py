"""The middleware for ASGI apps: Starlette, FastAPI, Django and others."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from turnout_tracking.analytics import Analytics
from turnout_tracking.lookup import NAME
from turnout_tracking.page_request import AsgiRequest
from turnout_tracking.tracker import Tracker

log = logging.getLogger("turnout.tracking")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class AsgiTracking:
    """Sends page calls for an ASGI app, and sets `scope["state"]["analytics"]` of its requests."""

    def __init__(self, app: App, tracker: Tracker) -> None:
        self.app = app
        self.tracker = tracker

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the app's lifespan."""
        kind = scope["type"]
        if kind == "http":
            await self._serve(scope, receive, send)
        elif kind == "lifespan":
            await self._live(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        analytics = Analytics(self.tracker, AsgiRequest(scope, self.tracker.resolve))
        scope.setdefault("state", {})[NAME] = analytics

        async def send_and_track(message: Message) -> None:
            kind = message["type"]
            if kind == "http.response.start":
                message = _start(analytics, message)
            await send(message)
            if kind == "http.response.body":
                analytics.read(message.get("body", b""))
                if not message.get("more_body"):
                    analytics.finish_safely()

        try:
            await self.app(scope, receive, send_and_track)
        finally:
            analytics.finish_safely()
        # Scope and analytics refer to each other. Leaving them to the garbage collector costs 5 µs per request.
        del scope["state"][NAME]

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Flush when the app shuts down, even if the app does not support the lifespan protocol, as Django's."""
        asked = False

        async def receive_and_note() -> Message:
            nonlocal asked
            asked = True
            return await receive()

        async def flush_and_send(message: Message) -> None:
            if message["type"].startswith("lifespan.shutdown."):
                from asyncio import to_thread

                await to_thread(self.tracker.flush)
            await send(message)

        try:
            await self.app(scope, receive_and_note, flush_and_send)
        except Exception:
            if asked:
                raise
        if not asked:
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await flush_and_send({"type": "lifespan.shutdown.complete"})


def _start(analytics: Analytics, message: Message) -> Message:
    """Return the message that starts the response, with the headers that tracking adds."""
    try:
        headers = message.get("headers", ())
        named = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}
        added = analytics.start(message["status"], named)
        more = [(name.lower().encode(), value.encode()) for name, value in added]
    except Exception as error:  # noqa: BLE001  # the response must go out even if tracking fails
        log.error("request not tracked: %s", type(error).__name__)  # noqa: TRY400
        return message
    return {**message, "headers": [*headers, *more]} if more else message
