"""Shared helpers: a collector that keeps requests, servers for apps, and an HTTP client."""

import json
import socket
import threading
import time
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from wsgiref.simple_server import WSGIRequestHandler, make_server

import orjson
import uvicorn

from turnout_tracking import Tracker

BROWSER = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0"
    " Safari/537.36"
)
NAVIGATION = {"User-Agent": BROWSER, "Accept": "text/html,*/*;q=0.8", "Sec-Fetch-Dest": "document"}
"""The headers that a browser sends when somebody opens a page."""


class Batch(NamedTuple):
    """A request that the collector received."""

    path: str
    key: str
    body: dict[str, Any]


class FakeCollector:
    """Keeps requests; responds to each with the next of `answers`, (status, headers, body), then with 200."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.answers: list[tuple[int, Mapping[str, str], str]] = []
        self.held = threading.Event()
        self.held.set()
        self.closed = 0
        self.url = ""

    @property
    def events(self) -> list[dict[str, Any]]:
        """Return all events of all requests, including requests that got an error."""
        return [event for batch in self.batches for event in batch.body["batch"]]

    def wait(self, count: int) -> list[dict[str, Any]]:
        """Wait for a number of events, and return them."""
        until(lambda: len(self.events) >= count)
        return self.events


def keep_events(tracker: Tracker) -> list[dict[str, Any]]:
    """Return a list that gets the tracker's events instead of its queue."""
    kept: list[dict[str, Any]] = []

    def put(_key: bytes, value: bytes) -> bool:
        kept.append(orjson.loads(value))
        return True

    tracker._sender.put = put  # type: ignore[method-assign]
    return kept


@contextmanager
def collecting(idle: float | None = None) -> Iterator[FakeCollector]:
    """Run a collector that closes connections after some idle seconds."""
    fake = FakeCollector()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = idle

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            key = b64decode(self.headers["Authorization"].removeprefix("Basic ")).decode().removesuffix(":")
            fake.batches.append(Batch(self.path, key, body))
            fake.held.wait(120)
            status, headers, text = fake.answers.pop(0) if fake.answers else (200, {}, '{"success":true}')
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(text))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())

        def finish(self):
            super().finish()
            fake.closed += 1

        def log_message(self, *_: Any):
            """Nothing to standard error."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *_: Any):
            """Ignore errors: tests close connections on purpose."""

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        fake.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield fake
        finally:
            fake.held.set()
            server.shutdown()
            thread.join()


@contextmanager
def asgi_server(app: Any) -> Iterator[int]:
    """Serve an app with uvicorn in a thread, including lifespan; yields the port."""
    server = uvicorn.Server(uvicorn.Config(app, interface="asgi3", log_level="critical", proxy_headers=False))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        until(lambda: server.started)
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join(120)


@contextmanager
def wsgi_server(app: Any) -> Iterator[int]:
    """Serve an app with the standard library's WSGI server in a thread; yields the port."""

    class Quiet(WSGIRequestHandler):
        def log_message(self, *_: Any):
            """Nothing to standard error."""

    with make_server("127.0.0.1", 0, app, handler_class=Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join(120)


class Answer(NamedTuple):
    """An HTTP response."""

    status: int
    headers: HTTPMessage
    body: bytes

    @property
    def cookie(self) -> str | None:
        """The Set-Cookie header of the anonymous ID."""
        cookies = self.headers.get_all("Set-Cookie") or []
        return next((cookie for cookie in cookies if cookie.startswith("ajs_anonymous_id=")), None)


def request(
    port: int, path: str, headers: Mapping[str, str] | Sequence[tuple[str, str]] = (), method: str = "GET"
) -> Answer:
    """Send a request like a browser opening a page; `headers` replace its own, None omits one."""
    given = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
    replaced = {name.lower() for name, _ in given}
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.putrequest(method, path, skip_host="host" in replaced, skip_accept_encoding=True)
    for name, value in [*((n, v) for n, v in NAVIGATION.items() if n.lower() not in replaced), *given]:
        if value is not None:
            connection.putheader(name, value)
    connection.endheaders()
    try:
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


def until(condition: Callable[[], object], seconds: float = 120.0) -> None:
    """Wait for a condition; fails the test on a timeout."""
    deadline = time.monotonic() + seconds
    pause = 0.002
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)
