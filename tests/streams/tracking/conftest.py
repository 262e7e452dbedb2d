from collections.abc import Iterator

import pytest

from tests.streams.tracking.helpers import FakeCollector, collecting


@pytest.fixture
def collector() -> Iterator[FakeCollector]:
    """A collector of the test's own."""
    with collecting() as fake:
        yield fake
