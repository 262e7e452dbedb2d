"""Send requests to the simulator of the vendors without a socket."""

from typing import Any
from urllib.parse import urlsplit

import orjson

from deploy.simulator.server import Simulator
from forwarders.api.contract import Request, Response


class SimulatorClient:
    """An HTTP client whose requests are answered by a simulator, whatever their host."""

    def __init__(self, simulator: Simulator | None = None) -> None:
        self._simulator = simulator or Simulator()

    async def send(self, request: Request) -> Response:
        """Return the simulator's response to a request."""
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

        await self._simulator.app(scope, receive, keep)
        start, *rest = sent
        answered = {name.decode(): value.decode() for name, value in start["headers"]}
        return Response(start["status"], answered, b"".join(each.get("body", b"") for each in rest))
