"""Provide ClickHouse databases for tests, on chdb in a separate process."""

import atexit
import hashlib
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from threading import Event

import pytest

from streams.ledger import clickhouse_store, clickhouse_tables
from streams.ledger.clickhouse_client import ClickHouseClient
from streams.ledger.settings import ClickHouseAddress
from streams.ledger.store import Store

PASSWORD = "only for tests"
PYTHON = "TURNOUT_TESTS_CHDB"
"""The environment variable with the path of a Python that has chdb-core; `make clickhouse` sets it."""


@cache
def _port() -> int:
    """Start the server once for all tests; it ends with this process."""
    python = os.environ.get(PYTHON)
    if not python:
        pytest.skip(f"{PYTHON} is not set: run `make clickhouse`")
    # Tests have events of the past, which ClickHouse would remove at any time.
    clickhouse_tables.TTL_MARGIN_DAYS = 4000
    # Tests leave stores behind as killed processes do.
    clickhouse_store.LEASE_SECONDS = 0.0
    script = Path(__file__).with_name("clickhouse_front.py")
    server = subprocess.Popen(
        [python, str(script), mkdtemp(prefix="chdb-")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PASSWORD": PASSWORD},
        text=True,
    )
    atexit.register(server.kill)
    assert server.stdout
    return int(server.stdout.readline())


@contextmanager
def kept(store: Store) -> Iterator[None]:
    """Keep a store the writer inside a `with` block."""
    ended = Event()

    def keep() -> None:
        while not ended.wait(0.1):
            store.keep()

    with ThreadPoolExecutor(1) as running:
        keeping = running.submit(keep)
        try:
            yield
        finally:
            ended.set()
        keeping.result()


def database_for(folder: Path) -> ClickHouseAddress:
    """Return the settings of a folder's own database; the same folder always has the same one."""
    port, name = _port(), f"t{hashlib.blake2b(str(folder).encode(), digest_size=8).hexdigest()}"
    server = ClickHouseAddress(url=f"http://127.0.0.1:{port}/default", user="turnout", password=PASSWORD)
    client = ClickHouseClient(server)
    client.run(f"CREATE DATABASE IF NOT EXISTS {name}")
    client.close()
    return server.model_copy(update={"url": f"http://127.0.0.1:{port}/{name}"})
