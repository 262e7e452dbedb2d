"""Shared fixtures: a real Kafka for the test run, and topics of its own for each test."""

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings

from streams.kafka.admin import create_topics
from streams.kafka.settings import Broker
from streams.topics import Topics
from tests.support import fuzzing, real_kafka


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[real_kafka.Kafka]:
    """Run a real Kafka, shared by all workers of a test run.

    Skips without Java, unless TURNOUT_TESTS_NEED_KAFKA says it must run.
    """
    reason = real_kafka.why_not()
    if reason and not os.environ.get("TURNOUT_TESTS_NEED_KAFKA"):
        pytest.skip(reason)
    base: Path = tmp_path_factory.getbasetemp()
    run = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with real_kafka.shared(run / "kafka") as running:
        yield running


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that needs the real Kafka, so that `-m "not kafka"` leaves all of them out."""
    for item in items:
        if "kafka" in getattr(item, "fixturenames", ()):
            item.add_marker("kafka")


@pytest.fixture
def broker(kafka: real_kafka.Kafka) -> Broker:
    """Return the settings of the real Kafka, with a short session so that rebalances are quick."""
    return Broker(bootstrap=kafka.bootstrap, session_timeout=6, rebalance_timeout=10)


@pytest.fixture
def topics(broker: Broker) -> Topics:
    """Create the test's own topics on the real Kafka, for the integrations `one` and `two`."""
    made = Topics(prefix=f"t{uuid4().hex[:8]}", partitions=3)
    create_topics(broker, made.declared(["one", "two"]), replication=1, timeout=60)
    return made


@pytest.fixture
def anyio_backend() -> str:
    """Run asynchronous tests on asyncio, like Turnout."""
    return "asyncio"


# Generating is slow on a loaded machine, and no property here is about time.
settings.register_profile(
    "turnout",
    deadline=None,
    database=None,
    derandomize=not fuzzing.LONG,
    max_examples=fuzzing.examples(100),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("turnout")
