from collections.abc import AsyncIterator, Iterator

import pytest

from streams.collector.server import Collector
from tests.streams.collector import helpers
from tests.streams.collector.helpers import Kept, serving


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Use one event loop per module, so that its tests can share a collector."""
    return "asyncio"


@pytest.fixture(scope="module", params=[True, False], ids=["direct", "asgi"])
def way(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Run a module's tests with collectors that handle events directly, then again through ASGI."""
    helpers.DIRECT = request.param
    yield request.param
    helpers.DIRECT = True


@pytest.fixture(scope="module")
async def shared(way: bool) -> AsyncIterator[tuple[Collector, Kept]]:
    """Run a collector and its producer for all tests of a module."""
    producer = Kept()
    async with serving(producer) as collector:
        yield collector, producer


@pytest.fixture
def collector(shared: tuple[Collector, Kept]) -> Collector:
    """Return the module's collector."""
    return shared[0]


@pytest.fixture
def producer(shared: tuple[Collector, Kept]) -> Kept:
    """Return the module's producer, emptied."""
    shared[1].records.clear()
    return shared[1]
