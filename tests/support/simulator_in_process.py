"""Replace the HTTP client by the simulator of the vendors, without a socket."""

from collections.abc import Awaitable, Callable
from typing import Any

from deploy.simulator.in_process import SimulatorClient
from deploy.simulator.server import Simulator
from forwarders.api.contract import Request, Response


def sending_to(simulator: Simulator) -> Callable[[Any, Request], Awaitable[Response]]:
    """Return a replacement of `Client.send` that passes each request to the simulator, whatever its host."""
    client = SimulatorClient(simulator)

    async def send(_: Any, request: Request) -> Response:
        return await client.send(request)

    return send
