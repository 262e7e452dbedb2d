"""A collector for all tests of this room, and a proxy before it for each."""

from collections.abc import Iterator

import pytest

from tests.clients.collecting import Collector, collecting
from tests.clients.proxy import Proxy, proxying
from tests.support.ports import free_port


@pytest.fixture(scope="session")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """A running collector."""
    with collecting(tmp_path_factory.mktemp("collector")) as running:
        yield running


@pytest.fixture(scope="session")
def proxy_port() -> int:
    """The port of each proxy: programs that contain it are built once."""
    return free_port()


@pytest.fixture
def proxy(collector: Collector, proxy_port: int) -> Iterator[Proxy]:
    """A proxy before the collector."""
    with proxying(collector.port, proxy_port) as running:
        yield running
