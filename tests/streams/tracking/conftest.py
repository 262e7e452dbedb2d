from collections.abc import Iterator

import pytest

from tests.streams.tracking.helpers import FakeCollector, collecting


@pytest.fixture
def collector() -> Iterator[FakeCollector]:
    """Run a collector for one test."""
    with collecting() as fake:
        yield fake
