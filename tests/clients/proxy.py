"""Run a proxy between an SDK and the collector that forwards requests, or responds with faults."""

import gzip
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Passed:
    """A request and its response: `at` in seconds, `body` the request's JSON."""

    at: float
    method: str
    path: str
    status: int
    headers: Mapping[str, str]
    body: Any


@dataclass
class Proxy:
    """A running proxy; responds to requests with events with `faults`, (status, headers), until they are used up."""

    port: int = 0
    faults: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    passed: list[Passed] = field(default_factory=list)

    @property
    def events(self) -> list[Passed]:
        """Return the requests with events."""
        return [one for one in self.passed if one.method == "POST"]


class _Server(ThreadingHTTPServer):
    """The server of one proxy, in front of the collector on a port."""

    daemon_threads = True

    def __init__(self, proxy: Proxy, collector: int, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.proxy, self.collector = proxy, collector
        self._open: set[Any] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Record a connection."""
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forget a connection."""
        self._open.discard(request)
        super().shutdown_request(request)

    def end_connections(self) -> None:
        """End the clients' open connections, which would send requests meant for the next proxy on this port."""
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    """Handles one connection's requests."""

    server: "_Server"
    protocol_version = "HTTP/1.1"

    def handle_any(self) -> None:
        at, proxy = time.monotonic(), self.server.proxy
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"".join(self.chunks())
        if self.command == "POST" and proxy.faults:
            status, headers = proxy.faults.pop(0)
            headers = headers | self.readable_by_pages()
            answer = b'{"code":"fault","message":"as the test wants it"}'
        else:
            status, headers, answer = self.ask(body)
        proxy.passed.append(Passed(at, self.command, self.path, status, dict(self.headers), self.read(body)))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_OPTIONS = handle_any  # noqa: N815

    def readable_by_pages(self) -> dict[str, str]:
        origin = self.headers.get("Origin")
        if not origin:
            return {}
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Credentials": "true",
            "Access-Control-Expose-Headers": "Retry-After",
        }

    def chunks(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()

    def ask(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = HTTPConnection("127.0.0.1", self.server.collector, timeout=120)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "transfer-encoding"}
        connection.request(self.command, self.path, body or None, headers)
        response = connection.getresponse()
        answered = {name: value for name, value in response.headers.items() if name.lower() != "content-length"}
        try:
            return response.status, answered, response.read()
        finally:
            connection.close()

    def read(self, body: bytes) -> Any:
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        return json.loads(body) if body else None

    def log_message(self, *_: Any) -> None:
        """Write nothing to standard error."""


@contextmanager
def proxying(collector: int, port: int = 0) -> Iterator[Proxy]:
    """Run a proxy in front of the collector on this port; by default on any free `port`."""
    proxy = Proxy()
    with _Server(proxy, collector, port) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        proxy.port = server.server_port
        try:
            yield proxy
        finally:
            server.shutdown()
            thread.join()
            server.end_connections()
