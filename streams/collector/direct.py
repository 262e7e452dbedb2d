"""Handle requests with events inside the HTTP protocol, without ASGI, which would take half of a request's time."""

import asyncio
from collections import deque
from functools import partial
from time import perf_counter
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from streams.collector import api
from streams.collector.api import Action
from streams.collector.app import App
from streams.collector.errors import RequestError, report_failure
from streams.collector.event_requests import EventRequest, unconfirmed
from streams.collector.protocol import BoundedProtocol, Deadline
from streams.kafka.acks import PendingAcks
from streams.observability import metrics

_TARGETS = {
    path.encode(): (path, target) for path, target in api.PATHS.items() if target.action in (Action.EVENT, Action.BATCH)
}
"""The paths that are handled here, if they are spelled like this; all other requests go through ASGI."""


class DirectCycle:
    """A request and its response; replaces uvicorn's cycle and has the attributes that uvicorn's protocol uses.

    `parts` has the parts of the body that arrived before earlier requests were answered.
    """

    __slots__ = (
        "disconnected",
        "expects_continue",
        "keep_alive",
        "more_body",
        "parts",
        "path",
        "request",
        "response_complete",
        "response_started",
        "scope",
        "started",
    )

    message_event = asyncio.Event()  # uvicorn sets it on a disconnect; nothing here waits for it

    def __init__(self, scope: object, path: str, request: EventRequest, *, keep_alive: bool, expects: bool) -> None:
        self.scope = scope
        self.path = path
        self.request = request
        self.keep_alive = keep_alive
        self.expects_continue = expects
        self.parts: list[bytes] = []
        self.more_body = True
        self.disconnected = self.response_started = self.response_complete = False
        self.started = 0.0


class DirectProtocol(BoundedProtocol):
    """Handles POST requests to the paths for events and batches itself, in the same order as other requests.

    A response is one write, and no task, future or timer is made for a request.
    """

    collector: App
    confirm_timeout: float

    cycle: Any  # uvicorn's cycle or a DirectCycle
    pipeline: deque[tuple[Any, Any]]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._confirming = Deadline(self.loop, self.confirm_timeout, self._time_out)
        # The request that is read or waits for Kafka; those in `pipeline` wait for it.
        self._current: DirectCycle | None = None
        self._is_stalled = False

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop an incomplete request; a request that waits for Kafka continues without a response."""
        self._confirming.cancel()
        cycle = self._current
        if cycle is not None and cycle.more_body:
            self._current = None
            cycle.response_complete = True
            cycle.request.body.close()
        super().connection_lost(exc)

    def on_body(self, body: bytes) -> None:
        """Receive a part of the body."""
        cycle = self.cycle
        if not isinstance(cycle, DirectCycle):
            super().on_body(body)
            return
        self._has_body = True
        if cycle is self._current:
            self._receive(cycle, body)
        elif not cycle.response_complete:
            cycle.parts.append(body)

    def on_response_complete(self) -> None:
        """Continue with the next request, unless the client does not read its responses."""
        if self.flow.write_paused and not self.transport.is_closing():
            self._is_stalled = True
            self.flow.pause_reading()
        else:
            super().on_response_complete()

    def resume_writing(self) -> None:
        """Continue with the next request."""
        super().resume_writing()
        if self._is_stalled:
            self._is_stalled = False
            self.on_response_complete()

    def _begin_cycle(self) -> None:
        path, query = self.url, b""
        if b"?" in path:
            url = httptools.parse_url(path)
            path, query = url.path, url.query or b""
        found = _TARGETS.get(path)
        if found is None or self.parser.get_method() != b"POST":
            super()._begin_cycle()
            return
        name, target = found
        previous = self.cycle
        self.cycle = cycle = DirectCycle(
            self.scope,
            name,
            EventRequest(self.collector.events, target, self.headers, query, self.client[0] if self.client else ""),
            keep_alive=self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive(),
            expects=self.expect_100_continue,
        )
        if (previous is None or previous.response_complete) and not self._is_stalled:
            self._open(cycle)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))

    def _complete_cycle(self) -> None:
        cycle = self.cycle
        if not isinstance(cycle, DirectCycle):
            super()._complete_cycle()
            return
        cycle.more_body = False
        if cycle is self._current:
            self._take(cycle)

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        if isinstance(cycle, DirectCycle):
            # Not at once, since a pipeline of rejected requests would be a recursion.
            self.loop.call_soon(self._resume, cycle)
        else:
            super()._start_asgi_task(cycle, app)

    def _resume(self, cycle: DirectCycle) -> None:
        """Handle a pipelined request as far as it has arrived."""
        if self.transport.is_closing():
            return
        self._open(cycle)
        for part in cycle.parts:
            self._receive(cycle, part)
        cycle.parts.clear()
        if cycle is self._current and not cycle.more_body:
            self._take(cycle)

    def _open(self, cycle: DirectCycle) -> None:
        self._current = cycle
        cycle.started = perf_counter()
        try:
            cycle.request.open()
        except RequestError as error:
            self._respond(cycle, error)
            return
        if cycle.expects_continue:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _receive(self, cycle: DirectCycle, part: bytes) -> None:
        if cycle.response_complete:
            return
        try:
            cycle.request.body.add(part)
        except RequestError as error:
            cycle.request.body.close()
            self._respond(cycle, error)

    def _take(self, cycle: DirectCycle) -> None:
        request = cycle.request
        acks = PendingAcks(partial(self._confirm, cycle))
        try:
            try:
                raw = request.body.read()
            finally:
                request.body.close()
            request.take(raw, acks)
        except RequestError as error:
            self._respond(cycle, error)
        except BaseException as error:  # noqa: BLE001  # uvicorn would log its text, which can quote an event
            self._respond(cycle, report_failure(cycle.path, error))
        else:
            self._confirming.start()
            acks.seal()

    def _confirm(self, cycle: DirectCycle, error: BaseException | None) -> None:
        if not cycle.response_complete:
            self._respond(cycle, cycle.request.succeed() if error is None else unconfirmed())

    def _time_out(self) -> None:
        if self._current is not None:
            self._respond(self._current, unconfirmed())

    def _respond(self, cycle: DirectCycle, result: bytes | RequestError) -> None:
        cycle.response_started = cycle.response_complete = True
        self._current = None
        self._confirming.stop()
        status, headers, body = self.collector.responder.respond(result, cycle.request.headers, self.scheme or "http")
        if not self.transport.is_closing():
            lines = [STATUS_LINE[status]]
            for name, value in (*self.server_state.default_headers, *headers):
                lines += (name, b": ", value, b"\r\n")
            if not cycle.keep_alive:
                lines.append(b"connection: close\r\n")
            lines += (b"\r\n", body)
            self.transport.write(b"".join(lines))
            if not cycle.keep_alive:
                self.transport.close()
        metrics.COLLECTOR_SECONDS.observe(perf_counter() - cycle.started)
        self.on_response_complete()
