"""The simulator's HTTP server: the requests received, and the faults to inject."""

import asyncio
import gzip
import logging
import socket
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

import orjson
import uvicorn
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from deploy.simulator.faults import EXPIRED, NOT_ACCEPTED, SCRIPT, Fault, FaultyProtocol, break_response
from deploy.simulator.vendor_state import VendorState
from deploy.simulator.vendors import SeenRequest, VendorReply, find_vendor
from streams.parsing.times import rfc3339

MAX_KEPT_REQUESTS = 1000
NO_FAULT = Fault()
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


class Simulator:
    """Accepts requests at any path. `show` is called with each request and its reply; `script` are the first faults.

    `GET /_requests` lists the requests, oldest first, with `?path=` only those whose path begins with it; `DELETE`
    removes them. `POST /_script` adds faults, a JSON list; `DELETE /_script` removes them. `GET /_counts` reports,
    per vendor and idempotency key, which deliveries were accepted, repeated and never accepted.
    """

    def __init__(
        self,
        *,
        keep: int = MAX_KEPT_REQUESTS,
        script: Iterable[Fault] = (),
        show: Callable[[SeenRequest, VendorReply], None] = lambda _, __: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._state = VendorState(clock)
        self._seen: deque[SeenRequest] = deque(maxlen=keep)
        self._count = 0
        self._faults = [fault.model_copy() for fault in script]
        self._show = show
        self.app = Starlette(
            routes=[
                Route("/_requests", self._list, methods=["GET"]),
                Route("/_requests", self._forget, methods=["DELETE"]),
                Route("/_counts", self._show_counts, methods=["GET"]),
                Route("/_script", self._add_faults, methods=["POST"]),
                Route("/_script", self._drop_faults, methods=["DELETE"]),
                Route("/{path:path}", self._handle, methods=METHODS),
            ]
        )

    def counts(self) -> dict[str, dict[str, Any]]:
        """Return the counts of each vendor, as in `GET /_counts`."""
        return self._state.counts()

    async def _handle(self, request: Request) -> ASGIApp:
        self._count += 1
        path = request.url.path
        vendor = find_vendor(path)
        seen = SeenRequest(
            self._count,
            rfc3339(time.time()),
            vendor.name,
            request.method,
            path,
            dict(request.query_params),
            dict(request.headers),
            _decode(await request.body(), request.headers.get("content-encoding")),
        )
        self._seen.append(seen)
        fault = self._next_fault(path) or NO_FAULT
        await asyncio.sleep(fault.delay)
        if fault.status is not None or fault.wrong in NOT_ACCEPTED:
            self._state.count_request(vendor, seen)
            reply = VendorReply(fault.status or 0, fault.body, fault.headers)
        else:
            reply = self._state.respond(vendor, seen, fault.poison)
        self._show(seen, reply)
        return break_response(_response(reply), fault.wrong) if fault.wrong else _response(reply)

    def _next_fault(self, path: str) -> Fault | None:
        fault = next((fault for fault in self._faults if path.startswith(fault.path)), None)
        if fault is not None and fault.times is not None:
            fault.times -= 1
            if not fault.times:
                self._faults.remove(fault)
        return fault

    async def _list(self, request: Request) -> Response:
        prefix = request.query_params.get("path", "")
        return _response(VendorReply(200, [asdict(seen) for seen in self._seen if seen.path.startswith(prefix)]))

    async def _forget(self, _: Request) -> Response:
        self._seen.clear()
        self._state.reset()
        return Response(status_code=204)

    async def _show_counts(self, _: Request) -> Response:
        return _response(VendorReply(200, self.counts()))

    async def _add_faults(self, request: Request) -> Response:
        try:
            self._faults += SCRIPT.validate_json(await request.body())
        except ValidationError as error:
            problems = error.errors(include_url=False, include_context=False, include_input=False)
            return _response(VendorReply(400, {"code": "script", "message": str(error), "problems": problems}))
        return Response(status_code=204)

    async def _drop_faults(self, _: Request) -> Response:
        self._faults.clear()
        return Response(status_code=204)


def _decode(body: bytes, encoding: str | None) -> Any:
    if encoding == "gzip":
        try:
            body = gzip.decompress(body)
        except (OSError, EOFError, zlib.error):
            return body.decode(errors="replace")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return body.decode(errors="replace")


def _response(reply: VendorReply) -> Response:
    if reply.body is None:
        return Response(status_code=reply.status, headers=dict(reply.headers))
    if isinstance(reply.body, str):
        return Response(reply.body, reply.status, dict(reply.headers))
    return Response(orjson.dumps(reply.body), reply.status, {"content-type": "application/json", **dict(reply.headers)})


def config(simulator: Simulator, *, expired: bool = False) -> uvicorn.Config:
    """Return the server's configuration; `expired` serves TLS with an expired certificate."""
    return uvicorn.Config(
        simulator.app,
        http=FaultyProtocol,
        log_config=None,
        # Broken connections are intended and need no log.
        log_level=logging.CRITICAL,
        access_log=False,
        timeout_graceful_shutdown=1,
        ssl_certfile=EXPIRED if expired else None,
    )


async def serve(simulator: Simulator, listener: socket.socket, *, expired: bool = False) -> None:
    """Serve a listening socket until SIGTERM or SIGINT; `expired` as in `config`."""
    await uvicorn.Server(config(simulator, expired=expired)).serve([listener])
