"""Run the simulator of the vendors for tests in a thread."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from deploy.simulator.server import Simulator, config
from deploy.terminal.failures import listen


@contextmanager
def serving(simulator: Simulator, *, expired: bool = False) -> Iterator[str]:
    """Run the simulator on a free port inside a `with` block; yields its address."""
    with listen("127.0.0.1", 0) as listener:
        server = uvicorn.Server(config(simulator, expired=expired))
        thread = threading.Thread(target=asyncio.run, args=(server.serve([listener]),))
        thread.start()
        try:
            yield f"http{'s' if expired else ''}://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
