"""The simulator of the vendors without a socket: an HTTP client that hands requests to its app."""

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import orjson

from deploy.simulator.server import Simulator
from forwarders.api.contract import Request, Response


def sending_to(simulator: Simulator) -> Callable[[Any, Request], Awaitable[Response]]:
    """Return what stands for `Client.send`: it gives each request to the simulator, whatever its host."""

    async def send(_: Any, request: Request) -> Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        body = request.body
        if body is not None and not isinstance(body, bytes):
            body = orjson.dumps(body)
            headers.setdefault("content-type", "application/json")
        url = urlsplit(request.url)
        scope = {
            "type": "http",
            "method": request.method,
            "path": url.path or "/",
            "query_string": url.query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body or b""}

        async def keep(message: Any) -> None:
            sent.append(message)

        await simulator.app(scope, receive, keep)
        start, *rest = sent
        answered = {name.decode(): value.decode() for name, value in start["headers"]}
        return Response(start["status"], answered, b"".join(each.get("body", b"") for each in rest))

    return send
