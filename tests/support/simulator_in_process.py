"""The simulator of the vendors without a socket, in place of an HTTP client."""

from collections.abc import Awaitable, Callable
from typing import Any

from deploy.simulator.in_process import SimulatorClient
from deploy.simulator.server import Simulator
from forwarders.api.contract import Request, Response


def sending_to(simulator: Simulator) -> Callable[[Any, Request], Awaitable[Response]]:
    """Return what stands for `Client.send`: it gives each request to the simulator, whatever its host."""
    client = SimulatorClient(simulator)

    async def send(_: Any, request: Request) -> Response:
        return await client.send(request)

    return send
