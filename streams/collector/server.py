"""Run the collector: its socket, its HTTP server, and its shutdown."""

import asyncio
import math
import signal
import socket
from collections.abc import Callable

import structlog
import uvicorn

from streams.collector.app import App
from streams.collector.direct import DirectProtocol
from streams.collector.protocol import BoundedProtocol
from streams.collector.settings import CollectorSettings
from streams.kafka.producer import Producer
from streams.sources.source import Sources
from streams.topics import Topics
from streams.worker.gc_tuning import relax_gc
from streams.worker.http_server import HttpServer, server_config

log = structlog.get_logger()


class Collector:
    """Receives events over HTTP.

    `sources` is called for each request and returns the current sources. On shutdown, requests in flight get `grace`
    seconds, and then the producer gets `grace` seconds. With `direct` false, requests with events go through ASGI like
    all others, which tests compare. Raises OSError if the browser client's file cannot be read.
    """

    def __init__(
        self,
        settings: CollectorSettings,
        sources: Callable[[], Sources],
        topics: Topics,
        producer: Producer,
        *,
        grace: float = 5.0,
        direct: bool = True,
    ) -> None:
        self.app = App(settings, sources, topics, producer)
        self.address = (settings.host, settings.port)
        self._settings = settings
        self._producer = producer
        self._grace = grace
        self._direct = direct
        self._server: HttpServer | None = None

    async def serve(self, ready: Callable[[], None] = lambda: None) -> int:
        """Serve until SIGTERM, SIGINT or `stop`, finish the requests in flight, and return the exit code.

        Raises BrokerError if Kafka is unavailable. Calls `ready` once it accepts requests; `address` is final from then
        on.
        """
        try:
            listener = socket.create_server(self.address, family=self._family(), backlog=2048)
        except OSError as error:
            log.error("cannot listen", host=self.address[0], port=self.address[1], reason=error.strerror)  # noqa: TRY400
            return 1
        relax_gc()
        with listener:
            self.address = listener.getsockname()[:2]
            await self._producer.start()
            try:
                await self._serve(listener, ready)
            finally:
                await self._producer.stop(self._grace)
        return 0

    def stop(self) -> None:
        """Shut down gracefully."""
        if self._server:
            self._server.should_exit = True

    async def _serve(self, listener: socket.socket, ready: Callable[[], None]) -> None:
        self._server = server = HttpServer(self._config(), ready)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        await server.serve([listener])

    def _config(self) -> uvicorn.Config:
        class AsgiProtocol(BoundedProtocol):
            read_timeout = self._settings.read_timeout

        class CollectorProtocol(AsgiProtocol, DirectProtocol):
            collector = self.app
            confirm_timeout = self._settings.confirm_timeout

        return server_config(
            self.app,
            http=CollectorProtocol if self._direct else AsgiProtocol,
            timeout_keep_alive=self._settings.keep_alive,
            timeout_graceful_shutdown=math.ceil(self._grace),
        )

    def _family(self) -> socket.AddressFamily:
        return socket.AF_INET6 if ":" in self._settings.host else socket.AF_INET
