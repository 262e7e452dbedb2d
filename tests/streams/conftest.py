import pytest

from streams.kafka.settings import Broker
from streams.topics import Topics
from tests.support.delivering import Bench


@pytest.fixture
def bench(broker: Broker, topics: Topics) -> Bench:
    """One integration's delivery on the real Kafka."""
    return Bench(broker, topics)


@pytest.fixture(autouse=True)
def short_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the guard hold failures only for a moment."""
    monkeypatch.setattr("streams.worker.guard.HOLD_SECONDS", 0.2)
