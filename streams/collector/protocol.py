"""uvicorn's HTTP protocol, with the bounds it lacks: on the time that a request takes to arrive, and on its head."""

import asyncio
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from streams.collector.errors import RequestError

HEAD_BYTES = 64 * 1024
"""Most bytes of a request's line and headers; the parser has no bound of its own."""


class BoundedProtocol(HttpToolsProtocol):
    """Ends connections whose request is not whole after `read_timeout` seconds, or whose head is over HEAD_BYTES.

    A request that comes in one piece, as most do, starts no timer.
    """

    read_timeout = 30.0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._arriving = False
        self._head: int | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Wait for the first request."""
        super().connection_made(transport)
        self._arriving = True
        self._start_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline."""
        self._stop_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came, and see that what is still to come does."""
        super().data_received(data)
        if not self._arriving or self.transport.is_closing():
            return
        if self._deadline is None:
            self._start_deadline()
        if self._head is not None:
            self._head += len(data)
            if self._head > HEAD_BYTES:
                self._refuse(431, "head_too_large", f"the request's head is over {HEAD_BYTES} bytes")

    def on_message_begin(self) -> None:
        """A request's first byte."""
        super().on_message_begin()
        self._arriving = True
        self._head = 0

    def on_headers_complete(self) -> None:
        """The head's end."""
        self._head = None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request's last byte."""
        self._arriving = False
        self._stop_deadline()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP."""
        self._refuse(400, "bad_request", msg)

    def _start_deadline(self) -> None:
        self._deadline = self.loop.call_later(self.read_timeout, self._expire)

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        self._refuse(408, "timeout", f"the request was not whole after {self.read_timeout:g} seconds")

    def _refuse(self, status: int, code: str, message: str) -> None:
        """Close the connection, with an answer where none is under way that it would run into."""
        # `scope` belongs to the request that is arriving, `cycle` to the last one whose head is whole.
        cycle = self.cycle
        answered = cycle is not None and (
            cycle.response_started if cycle.scope is self.scope else not cycle.response_complete
        )
        if self.scope is not None and not answered and not self.transport.is_closing():
            body = RequestError(status, code, message).body
            self.transport.write(
                b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
                % (status, HTTPStatus(status).phrase.encode(), len(body), body)
            )
        self.transport.close()
