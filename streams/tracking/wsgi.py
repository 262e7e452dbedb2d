"""The middleware for WSGI apps: Flask, Django, and others."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from streams.tracking.analytics import Analytics
from streams.tracking.requests import WSGI_KEY
from streams.tracking.tracker import Tracker
from streams.tracking.visit import WsgiVisit

log = logging.getLogger("turnout.tracking")

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
App = Callable[[Environ, StartResponse], Iterable[bytes]]


class WsgiTracking:
    """Sends page calls for a WSGI app, and gives its requests `environ["turnout.analytics"]`."""

    def __init__(self, app: App, tracker: Tracker) -> None:
        self.app = app
        self.tracker = tracker

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        analytics = Analytics(self.tracker, WsgiVisit(environ, self.tracker.resolve))
        environ[WSGI_KEY] = analytics

        def start_and_listen(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            return start_response(status, [*headers, *_start(analytics, status, headers)], *error)

        body = self.app(environ, start_and_listen)
        file_wrapper = environ.get("wsgi.file_wrapper")
        if isinstance(file_wrapper, type) and isinstance(body, file_wrapper):
            # The server sends it without reading it in Python, as long as it recognises it.
            _finish(analytics)
            return body
        return _Body(body, analytics)


class _Body:
    """A response's body that is listened to, and whose end is noticed."""

    def __init__(self, body: Iterable[bytes], analytics: Analytics) -> None:
        self._body, self._analytics = body, analytics

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._body:
            self._analytics.read(chunk)
            yield chunk

    def close(self) -> None:
        """What the server calls when the response is done, or broken off."""
        try:
            if hasattr(self._body, "close"):
                self._body.close()
        finally:
            _finish(self._analytics)
            # Each holds the other, and would be left to the garbage collector.
            self._analytics.visit.raw.pop(WSGI_KEY, None)


def _start(analytics: Analytics, status: str, headers: Iterable[tuple[str, str]]) -> Sequence[tuple[str, str]]:
    try:
        return analytics.start(int(status[:3]), {name.lower(): value for name, value in headers})
    except Exception as error:  # noqa: BLE001  # the response goes out whatever becomes of its tracking
        log.error("a request was not tracked: %s", type(error).__name__)  # noqa: TRY400
        return ()


def _finish(analytics: Analytics) -> None:
    try:
        analytics.finish()
    except Exception as error:  # noqa: BLE001  # as above
        log.error("a page was not tracked: %s", type(error).__name__)  # noqa: TRY400
