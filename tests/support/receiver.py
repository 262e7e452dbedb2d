"""Run a vendor for tests: an HTTP server that keeps requests and responds as a test defines."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass
class Got:
    """A received request."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


Answer = Callable[[Got], "Awaitable[web.StreamResponse] | web.StreamResponse"]


@dataclass
class Receiver:
    """Keeps every request; `answer` returns the response, 200 by default; `note` is called for each 200."""

    url: str = ""
    got: list[Got] = field(default_factory=list)
    answer: Answer = lambda _: web.json_response({})
    note: Callable[[Got], None] = lambda _: None
    open: int = 0
    most_open: int = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        text = await request.text()
        got = Got(request.method, request.path_qs, dict(request.headers), json.loads(text) if text else None)
        self.got.append(got)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            said = self.answer(got)
            response = await said if asyncio.iscoroutine(said) else said
            if response.status == 200:
                self.note(got)
            return response
        finally:
            self.open -= 1


@asynccontextmanager
async def receiving(port: int = 0) -> AsyncIterator[Receiver]:
    """Run a receiver."""
    receiver = Receiver()
    app = web.Application(client_max_size=64 << 20)
    app.router.add_route("*", "/{path:.*}", receiver.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    try:
        yield receiver
    finally:
        await runner.cleanup()
