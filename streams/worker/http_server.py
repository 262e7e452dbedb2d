"""Serve HTTP inside a process that handles signals itself."""

import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn


def server_config(app: Any, **options: Any) -> uvicorn.Config:
    """Return uvicorn's configuration for an ASGI app that logs and reads proxies' headers itself.

    `options` are further ones of uvicorn.
    """
    return uvicorn.Config(
        app,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        **options,
    )


class HttpServer(uvicorn.Server):
    """uvicorn's server without its signal handling, which ends the process before its owner has stopped the rest.

    `ready` is called once the server accepts requests.
    """

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the process."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept requests, and report it."""
        await super().startup(sockets)
        self._ready()
