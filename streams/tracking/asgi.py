"""The middleware for ASGI apps: Starlette, FastAPI, Django, and others."""

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from streams.tracking.analytics import Analytics
from streams.tracking.requests import NAME
from streams.tracking.tracker import Tracker
from streams.tracking.visit import AsgiVisit

log = logging.getLogger("turnout.tracking")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class AsgiTracking:
    """Sends page calls for an ASGI app, and gives its requests `scope["state"]["analytics"]`."""

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
        analytics = Analytics(self.tracker, AsgiVisit(scope, self.tracker.resolve))
        scope.setdefault("state", {})[NAME] = analytics

        async def send_and_listen(message: Message) -> None:
            kind = message["type"]
            if kind == "http.response.start":
                message = _start(analytics, message)
            await send(message)
            if kind == "http.response.body":
                analytics.read(message.get("body", b""))
                if not message.get("more_body"):
                    _finish(analytics)

        try:
            await self.app(scope, receive, send_and_listen)
        finally:
            _finish(analytics)
        # Scope and analytics hold each other, and would be left to the garbage collector, which costs 5 µs a request.
        del scope["state"][NAME]

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Flush when the app shuts down, also for an app that takes no part in the lifespan, as Django's."""
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
    """The message that begins the response, with the headers that tracking adds."""
    try:
        headers = message.get("headers", ())
        named = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}
        added = analytics.start(message["status"], named)
        more = [(name.lower().encode(), value.encode()) for name, value in added]
    except Exception as error:  # noqa: BLE001  # the response goes out whatever becomes of its tracking
        log.error("a request was not tracked: %s", type(error).__name__)  # noqa: TRY400
        return message
    return {**message, "headers": [*headers, *more]} if more else message


def _finish(analytics: Analytics) -> None:
    try:
        analytics.finish()
    except Exception as error:  # noqa: BLE001  # as above
        log.error("a page was not tracked: %s", type(error).__name__)  # noqa: TRY400
