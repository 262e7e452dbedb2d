"""The simulator's HTTP server: what it remembers, and the faults it was told of."""

import asyncio
import gzip
import socket
import time
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import orjson
import uvicorn
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deploy.simulator.playing import Playing
from deploy.simulator.vendors import Reply, Seen, find_vendor
from streams.events import rfc3339

KEPT = 1000
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


class Fault(BaseModel):
    """An answer for the next requests whose path begins with `path`, instead of the vendor's own."""

    model_config = ConfigDict(extra="forbid")

    path: str = Field("/", description="Beginning of the path.")
    status: int | None = Field(None, ge=100, le=599, description="Status to answer with; by default the vendor's own.")
    headers: dict[str, str] = Field(default_factory=dict, description="Headers of the answer.")
    body: Any = Field(None, description="JSON data, or a string as it stands.")
    delay: float = Field(0, ge=0, description="Seconds until the answer.")
    times: int | None = Field(1, ge=1, description="How many requests it is for; null for all from now on.")
    poison: str | None = Field(None, min_length=1, description="The vendor refuses the deliveries that hold this text.")


_SCRIPT = TypeAdapter(list[Fault])


class Simulator:
    """Takes requests at any path. `app` is the ASGI app; `show` is called with each request and its reply.

    `GET /_requests` gives what came, oldest first, with `?path=` only what begins so; `DELETE /_requests` forgets it.
    `POST /_script` adds faults, a JSON list; `DELETE /_script` takes them back. `GET /_counts` says of each vendor how
    many deliveries it took, and which came more than once.
    """

    def __init__(
        self,
        *,
        kept: int = KEPT,
        show: Callable[[Seen, Reply], None] = lambda _, __: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._playing = Playing(clock)
        self._seen: deque[Seen] = deque(maxlen=kept)
        self._count = 0
        self._faults: list[Fault] = []
        self._show = show
        self.app = Starlette(
            routes=[
                Route("/_requests", self._list, methods=["GET"]),
                Route("/_requests", self._forget, methods=["DELETE"]),
                Route("/_counts", self._show_counts, methods=["GET"]),
                Route("/_script", self._add_faults, methods=["POST"]),
                Route("/_script", self._drop_faults, methods=["DELETE"]),
                Route("/{path:path}", self._take, methods=METHODS),
            ]
        )

    async def _take(self, request: Request) -> Response:
        self._count += 1
        path = request.url.path
        vendor = find_vendor(path)
        seen = Seen(
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
        fault = self._next_fault(path)
        if fault is not None:
            await asyncio.sleep(fault.delay)
        if fault is not None and fault.status is not None:
            reply = Reply(fault.status, fault.body, fault.headers)
        else:
            reply = self._playing.answer(vendor, seen, fault.poison if fault is not None else None)
        self._show(seen, reply)
        return _response(reply)

    def _next_fault(self, path: str) -> Fault | None:
        fault = next((fault for fault in self._faults if path.startswith(fault.path)), None)
        if fault is not None and fault.times is not None:
            fault.times -= 1
            if not fault.times:
                self._faults.remove(fault)
        return fault

    async def _list(self, request: Request) -> Response:
        prefix = request.query_params.get("path", "")
        return _response(Reply(200, [asdict(seen) for seen in self._seen if seen.path.startswith(prefix)]))

    async def _forget(self, _: Request) -> Response:
        self._seen.clear()
        self._playing.forget()
        return Response(status_code=204)

    async def _show_counts(self, _: Request) -> Response:
        return _response(Reply(200, self._playing.counts()))

    async def _add_faults(self, request: Request) -> Response:
        try:
            self._faults += _SCRIPT.validate_json(await request.body())
        except ValidationError as error:
            problems = error.errors(include_url=False, include_context=False, include_input=False)
            return _response(Reply(400, {"code": "script", "message": str(error), "problems": problems}))
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


def _response(reply: Reply) -> Response:
    if reply.body is None:
        return Response(status_code=reply.status, headers=dict(reply.headers))
    if isinstance(reply.body, str):
        return Response(reply.body, reply.status, dict(reply.headers))
    return Response(orjson.dumps(reply.body), reply.status, {"content-type": "application/json", **dict(reply.headers)})


async def serve(simulator: Simulator, listener: socket.socket) -> None:
    """Answer on a listening socket until SIGTERM or SIGINT."""
    config = uvicorn.Config(simulator.app, log_config=None, access_log=False, timeout_graceful_shutdown=1)
    await uvicorn.Server(config).serve([listener])
