"""The middleware for WSGI apps: Flask, Django and others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from turnout_tracking.analytics import Analytics
from turnout_tracking.lookup import WSGI_KEY
from turnout_tracking.page_request import WsgiRequest
from turnout_tracking.tracker import Tracker

log = logging.getLogger("turnout.tracking")

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
App = Callable[[Environ, StartResponse], Iterable[bytes]]


class WsgiTracking:
    """Sends page calls for a WSGI app, and sets `environ["turnout.analytics"]` of its requests."""

    def __init__(self, app: App, tracker: Tracker) -> None:
        self.app = app
        self.tracker = tracker

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        analytics = Analytics(self.tracker, WsgiRequest(environ, self.tracker.resolve))
        environ[WSGI_KEY] = analytics

        def start_and_track(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            return start_response(status, [*headers, *_start(analytics, status, headers)], *error)

        try:
            body = self.app(environ, start_and_track)
        except BaseException:
            analytics.finish_safely()
            raise
        file_wrapper = environ.get("wsgi.file_wrapper")
        if isinstance(file_wrapper, type) and isinstance(body, file_wrapper):
            # The server sends the file without reading it in Python only if the body is still the wrapper.
            analytics.finish_safely()
            return body
        return _Body(body, analytics)


class _Body:
    """A response's body that passes its chunks and its end to the analytics."""

    def __init__(self, body: Iterable[bytes], analytics: Analytics) -> None:
        self._body, self._analytics = body, analytics

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._body:
            self._analytics.read(chunk)
            yield chunk

    def close(self) -> None:
        """Finish the request. The server calls this when the response is complete or aborted."""
        try:
            if hasattr(self._body, "close"):
                self._body.close()
        finally:
            self._analytics.finish_safely()
            # Environ and analytics refer to each other, and would be left to the garbage collector.
            self._analytics.page_request.raw.pop(WSGI_KEY, None)


def _start(analytics: Analytics, status: str, headers: Iterable[tuple[str, str]]) -> Sequence[tuple[str, str]]:
    try:
        return analytics.start(int(status[:3]), {name.lower(): value for name, value in headers})
    except Exception as error:  # noqa: BLE001  # the response must go out even if tracking fails
        log.error("request not tracked: %s", type(error).__name__)  # noqa: TRY400
        return ()
