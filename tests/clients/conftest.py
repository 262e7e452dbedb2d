"""Provide a collector for all tests of this folder, and a proxy in front of it for each test."""

from collections.abc import Iterator

import pytest

from tests.clients.collecting import Collector, collecting
from tests.clients.proxy import Proxy, proxying
from tests.support.ports import free_port


@pytest.fixture(scope="session")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """Run a collector."""
    with collecting(tmp_path_factory.mktemp("collector")) as running:
        yield running


@pytest.fixture(scope="session")
def proxy_port() -> int:
    """Return the port of every proxy, fixed so that programs that contain it are built once."""
    return free_port()


@pytest.fixture
def proxy(collector: Collector, proxy_port: int) -> Iterator[Proxy]:
    """Run a proxy in front of the collector."""
    with proxying(collector.port, proxy_port) as running:
        yield running
