from collections.abc import AsyncIterator

import pytest

from streams.collector.server import Collector
from tests.streams.collector.helpers import Kept, serving


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop a module, so that its tests can share a collector."""
    return "asyncio"


@pytest.fixture(scope="module")
async def shared() -> AsyncIterator[tuple[Collector, Kept]]:
    """A collector for all tests of a module, and its producer."""
    producer = Kept()
    async with serving(producer) as collector:
        yield collector, producer


@pytest.fixture
def collector(shared: tuple[Collector, Kept]) -> Collector:
    """The module's collector."""
    return shared[0]


@pytest.fixture
def producer(shared: tuple[Collector, Kept]) -> Kept:
    """The module's producer, emptied."""
    shared[1].records.clear()
    return shared[1]
