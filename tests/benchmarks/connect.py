"""Run Redpanda Connect as a collector: its HTTP input, and its Kafka output keyed by user, at its best settings.

It does not check events, and responds once Kafka has confirmed them, like the collector.
"""

import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.support import npm
from tests.support.ports import free_port

PROGRAM = npm.CACHE / "connect"


def build() -> bool:
    """Build the program; returns False if Go is not installed."""
    go = shutil.which("go")
    if go is None:
        return False
    npm.CACHE.mkdir(parents=True, exist_ok=True)
    folder = Path(__file__).with_name("connect")
    subprocess.run([go, "build", "-p", "1", "-o", str(PROGRAM), "."], cwd=folder, check=True, capture_output=True)
    return True


def start(bootstrap: str, topic: str, *, size: int, core: int, folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    """Start it on one core for requests of `size` events; returns its port."""
    port = free_port()
    path = folder / f"connect{port}.json"
    path.write_text(json.dumps(configuration(bootstrap, topic, size, port)))
    one = os.environ | {"GOMAXPROCS": "1"}
    child = subprocess.Popen(["taskset", "-c", str(core), str(PROGRAM), "-c", str(path)], env=one)
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if child.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return child, port


def configuration(bootstrap: str, topic: str, size: int, port: int) -> dict[str, Any]:
    """Return its configuration: one message per event; single events are written in batches, as in the collector."""
    several = size > 1
    processors = [{"mapping": "root = this.batch"}, {"unarchive": {"format": "json_array"}}]
    return {
        "http": {"enabled": False},
        "logger": {"level": "ERROR"},
        "input": {"http_server": {"address": f"127.0.0.1:{port}", "path": "/v1/batch" if several else "/v1/track"}},
        "pipeline": {"threads": 1, "processors": processors if several else []},
        "output": {
            "kafka_franz": {
                "seed_brokers": [bootstrap],
                "topic": topic,
                "key": '${! json("userId") }',
                "partitioner": "murmur2_hash",
                "compression": "zstd",
                "max_in_flight": 64,
                **({} if several else {"batching": {"count": 64, "period": "5ms"}}),
            }
        },
    }
