import pytest

from streams.kafka.settings import Broker
from streams.topics import Topics
from tests.support.delivering import Bench


@pytest.fixture
def bench(broker: Broker, topics: Topics) -> Bench:
    """Run one integration's delivery on the real Kafka."""
    return Bench(broker, topics)


@pytest.fixture(autouse=True)
def short_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the guard hold failures only briefly."""
    monkeypatch.setattr("streams.worker.guard.HOLD_SECONDS", 0.2)
