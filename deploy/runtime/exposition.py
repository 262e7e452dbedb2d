"""Serve a process's metrics, and whether it is healthy and ready."""

import asyncio
import json
import socket
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from importlib.metadata import version
from socketserver import TCPServer, ThreadingMixIn
from threading import Thread
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from deploy.config.settings import TurnoutSettings
from deploy.terminal.failures import Failed

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

PROCESSES = ("collector", "router", "forwarder", "ledger")
"""The processes with metrics; a process's index is added to `metrics_port`, so that each can run on one machine."""

LOOP_SECONDS = 5.0
"""Seconds that the event loop of a process has to react; after them the process is not healthy."""


class Readiness:
    """Reports whether a process is healthy and ready for work. Called from a separate thread."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._find_obstacle: Callable[[], str | None] = lambda: "it is starting"

    def started(self, find_obstacle: Callable[[], str | None] = lambda: None) -> None:
        """Record that the process has started; `find_obstacle`, run in this event loop, returns why it is not ready."""
        self._loop, self._find_obstacle = asyncio.get_running_loop(), find_obstacle

    def check(self) -> tuple[bool, str | None]:
        """Return whether the process is healthy, and why it is not ready."""
        if self._loop is None:
            return True, self._find_obstacle()
        asked = asyncio.run_coroutine_threadsafe(self._ask(), self._loop)
        try:
            return True, asked.result(LOOP_SECONDS)
        except FutureTimeoutError:
            asked.cancel()
            return False, f"its event loop has not reacted for {LOOP_SECONDS:.0f} s"
        except RuntimeError as error:
            return False, f"it is stopping: {error}"

    async def _ask(self) -> str | None:
        return self._find_obstacle()


def port_of(process: str, settings: TurnoutSettings) -> int | None:
    """Return the port of a process's metrics: 0 for any free port, None if they are not served."""
    return settings.metrics_port and settings.metrics_port + PROCESSES.index(process)


@contextmanager
def serve_metrics(
    process: str, settings: TurnoutSettings, readiness: Readiness | None = None
) -> Iterator[Mapping[str, Any]]:
    """Serve `/metrics`, `/health` and `/ready` from a thread; yields fields for the log. Raises Failed.

    If the port is the default one and in use, a free one is picked.
    """
    port = port_of(process, settings)
    if port is None:
        yield {}
        return
    from prometheus_client import disable_created_metrics, make_wsgi_app

    from streams.observability.metrics import BUILD_INFO

    disable_created_metrics()  # type: ignore[no-untyped-call]  # they would double the number of series
    BUILD_INFO.labels(version("turnout"), process).set(1)
    server = _listen(settings, port)
    server.set_app(_make_app(make_wsgi_app(), readiness or Readiness()))
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield {"metrics": server.server_port}
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _listen(settings: TurnoutSettings, port: int) -> "_Server":
    try:
        return _Server((settings.metrics_host, port), _SilentHandler)
    except OSError as error:
        if "metrics_port" not in settings.model_fields_set:
            return _Server((settings.metrics_host, 0), _SilentHandler)
        hint = "a second process of this kind needs another TURNOUT_METRICS_PORT"
        raise Failed(f"cannot serve metrics on {settings.metrics_host}:{port}: {error.strerror} ({hint})") from error


def _make_app(metrics: "WSGIApplication", readiness: Readiness) -> "WSGIApplication":
    def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Any:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            return metrics(environ, start_response)
        if path not in ("/health", "/ready"):
            return _answer(start_response, "404 Not Found", {"code": "not_found", "message": "see /metrics"})
        is_healthy, obstacle = readiness.check()
        if path == "/health":
            obstacle = None if is_healthy else obstacle
        if obstacle is None:
            return _answer(start_response, "200 OK", {"status": "up" if path == "/health" else "ready"})
        code = "unhealthy" if path == "/health" else "not_ready"
        return _answer(start_response, "503 Service Unavailable", {"code": code, "message": obstacle})

    return app


def _answer(start_response: "StartResponse", status: str, data: Mapping[str, str]) -> list[bytes]:
    start_response(status, [("Content-Type", "application/json")])
    return [json.dumps(data).encode()]


class _Server(ThreadingMixIn, WSGIServer):
    """A server with a thread per request, so that a slow client does not delay others."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[WSGIRequestHandler]) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Bind without looking up the host's name, which may take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()


class _SilentHandler(WSGIRequestHandler):
    timeout = 30

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Log nothing: Prometheus asks every few seconds."""
