"""Extend uvicorn's HTTP protocol with limits on a request's head, trailers and duration."""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from streams.collector.errors import RequestError

HEAD_BYTES = 64 * 1024
"""Maximum size of a request's line and headers, and of its trailers; the parser itself has no limit."""


class Deadline:
    """Calls `expire` after `seconds`, unless it is stopped or started again.

    Almost every request starts and stops it, so neither touches the timer: it checks the deadline when it fires.
    """

    __slots__ = ("_at", "_expire", "_loop", "_seconds", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, expire: Callable[[], None]) -> None:
        self._loop = loop
        self._seconds = seconds
        self._expire = expire
        self._at: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def runs(self) -> bool:
        """Whether the deadline was started and not stopped."""
        return self._at is not None

    def start(self) -> None:
        """Expire in `seconds` from now."""
        self._at = self._loop.time() + self._seconds
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._fire)

    def stop(self) -> None:
        """Do not expire."""
        self._at = None

    def cancel(self) -> None:
        """Stop, and remove the timer."""
        self._at = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer = None
        if self._at is None:
            return
        left = self._at - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._fire)
        else:
            self._at = None
            self._expire()


class BoundedProtocol(HttpToolsProtocol):
    """Closes a connection if its request takes more than `read_timeout` seconds or its head exceeds HEAD_BYTES.

    Earlier requests on the same connection are answered first. Trailers and offers to upgrade the protocol are ignored.
    A request that arrives in one chunk, as most do, starts no timer.
    """

    read_timeout = 30.0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._arriving = False
        self._reading = Deadline(self.loop, self.read_timeout, self._expire)
        self._idle = Deadline(self.loop, self.timeout_keep_alive, self.timeout_keep_alive_handler)
        # The chunk being parsed: its size, and whether it has bytes of an earlier request or of a body.
        self._piece = 0
        self._shared = False
        self._has_body = False
        # Bytes of earlier chunks that belong to the head or to the trailers.
        self._held = 0
        self._previous: RequestResponseCycle | None = None
        self._refusal: bytes | None = None
        # The head of a request that offers to upgrade the protocol, without the offer.
        self._head: bytes | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Wait for the first request."""
        super().connection_made(transport)
        self._arriving = True
        self._reading.start()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timers."""
        self._reading.cancel()
        self._idle.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse the next chunk, and check that the rest of the request arrives in time and within limits."""
        if self._refusal is not None:
            return
        self._piece = len(data)
        self._shared = self._arriving and self.scope is not None
        self._has_body = False
        self._idle.stop()
        self._parse(data)
        if not self._arriving or self._refusal is not None or self.transport.is_closing():
            return
        if not self._reading.runs:
            self._reading.start()
        self._held = 0 if self._has_body else self._held + self._piece
        if self._held > HEAD_BYTES:
            self._refuse_head()

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        # The position of the request in the chunk is unknown, so a pipelined request is not charged for this chunk.
        self._held = -self._piece if self._shared else 0
        self._shared = True
        self._arriving = True

    def on_headers_complete(self) -> None:
        """End a request's head; raises HttpParserError to stop the parser if the head is too large."""
        if self._piece > HEAD_BYTES or self._held + self._piece > HEAD_BYTES:
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > HEAD_BYTES:
                self._refuse_head()
                raise httptools.HttpParserError
        self._held = 0
        method = self.parser.get_method()
        if self.parser.should_upgrade() and method != b"CONNECT":
            fields = b"".join(b"%b: %b\r\n" % field for field in self.headers if field[0] != b"upgrade")
            version = self.parser.get_http_version().encode()
            self._head = b"%b %b HTTP/%b\r\n%b\r\n" % (method, self.url, version, fields)
            return
        self._previous = self.cycle
        self._begin_cycle()
        # The parser reports trailers like headers. The request keeps the list that it already has.
        self.headers = []

    def on_body(self, body: bytes) -> None:
        """Receive a chunk of the body."""
        self._has_body = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        if self._head is not None:
            return
        self._arriving = False
        self._reading.stop()
        self._complete_cycle()

    def on_response_complete(self) -> None:
        """Continue with the next request; after the last one, send a pending rejection."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self._idle.start()
        if self._refusal is not None and self.cycle.response_complete:
            self._close_with(self._refusal)

    def send_400_response(self, msg: str) -> None:
        """Reject invalid HTTP."""
        self._refuse("bad_request", msg)

    def _parse(self, data: bytes) -> None:
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                if self._head is None:
                    return
                # The parser treats the body as the other protocol. Java's HttpClient offers HTTP/2 with each request.
                data = self._head + data[offer.args[0] :]
                self._head = None
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            except httptools.HttpParserError:
                self.send_400_response("invalid HTTP")
                return
            else:
                return

    def _begin_cycle(self) -> None:
        """Begin to handle the request whose head is complete."""
        super().on_headers_complete()

    def _complete_cycle(self) -> None:
        """Handle the request now that its body is complete."""
        self.cycle.more_body = False
        super().on_message_complete()

    def _expire(self) -> None:
        self._refuse("timeout", f"the request did not complete within {self.read_timeout:g} seconds")

    def _refuse_head(self) -> None:
        self._refuse("head_too_large", f"the request's head or trailers exceed {HEAD_BYTES} bytes")

    def _refuse(self, code: str, message: str) -> None:
        """Reject the incoming request, and close the connection once earlier requests are answered."""
        if self._refusal is not None or self.transport.is_closing():
            return
        self._reading.stop()
        error = RequestError(code, message)
        refusal = (
            b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
            % (
                error.status,
                HTTPStatus(error.status).phrase.encode(),
                len(error.body),
                error.body,
            )
        )
        cycle = self.cycle
        if cycle is not None and cycle.more_body and cycle.scope is self.scope:
            # The head has arrived, but not the whole body.
            if not self.pipeline:
                self._close_with(b"" if cycle.response_started else refusal)
                return
            self.pipeline.popleft()
            assert self._previous is not None  # a pipelined request follows another
            cycle = self.cycle = self._previous
        if cycle is not None and not cycle.response_complete:
            self._refusal = refusal
        else:
            self._close_with(b"" if self.scope is None else refusal)

    def _close_with(self, answer: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(answer)
            self.transport.close()
