"""Processes compare this machine's clock with Kafka's when they start."""

import time

import pytest
from structlog.testing import capture_logs

from deploy.runtime import workers
from streams import clock
from streams.kafka import kafka_time
from streams.kafka.kafka_time import find_clock_difference
from streams.kafka.settings import Broker, BrokerError

TWO_DAYS = 48 * 3600.0


@pytest.fixture(autouse=True)
def _machine_time():
    yield
    clock.follow(None)


def test_kafka_tells_its_time(broker: Broker, monkeypatch: pytest.MonkeyPatch):
    """On a real Kafka the difference is that of the clocks, whichever is ahead."""
    now, ahead = find_clock_difference(broker, 60)
    assert abs(ahead) < 30
    assert abs(now - time.time()) < 60
    real = time.time
    for wrong in (TWO_DAYS, -TWO_DAYS):
        monkeypatch.setattr(kafka_time.time, "time", lambda wrong=wrong: real() + wrong)
        now, ahead = find_clock_difference(broker, 60)
        assert abs(ahead - wrong) < 30
        assert abs(now - real()) < 60


@pytest.mark.parametrize(
    ("ahead", "line"),
    [
        (TWO_DAYS, "this machine's clock is 48 h ahead of Kafka's"),
        (-TWO_DAYS, "this machine's clock is 48 h behind Kafka's"),
        (600.0, "this machine's clock is 10 min ahead of Kafka's"),
    ],
)
def test_a_wrong_clock_is_named_and_replaced(monkeypatch: pytest.MonkeyPatch, ahead: float, line: str):
    """The log has one line, and the process acts by Kafka's time from then on."""
    monkeypatch.setattr(workers, "find_clock_difference", lambda *_: (time.time() - ahead, ahead))
    with capture_logs() as logs:
        workers.check_clock(Broker())
    assert [entry["event"] for entry in logs] == [line]
    assert abs(clock.time() - (time.time() - ahead)) < 60
    told = clock.record_time()
    assert told is not None
    assert abs(told / 1000 - clock.time()) < 60


def test_a_clock_that_is_right_is_kept(monkeypatch: pytest.MonkeyPatch):
    """A few seconds are no difference, and nothing is logged; records have the client library's time."""
    monkeypatch.setattr(workers, "find_clock_difference", lambda *_: (0.0, 20.0))
    with capture_logs() as logs:
        workers.check_clock(Broker())
    assert logs == []
    assert clock.record_time() is None
    assert abs(clock.time() - time.time()) < 60


def test_a_broker_that_does_not_tell_its_time(monkeypatch: pytest.MonkeyPatch):
    """The log says what Kafka needs for it, and this machine's clock is kept."""

    def refuse(*_: object) -> None:
        raise BrokerError("Kafka at kafka:9092 does not answer: ClusterAuthorizationFailedError")

    monkeypatch.setattr(workers, "find_clock_difference", refuse)
    with capture_logs() as logs:
        workers.check_clock(Broker())
    (entry,) = logs
    assert entry["log_level"] == "info"
    assert "Describe on the cluster" in entry["needs"]
    assert clock.record_time() is None
