"""The stage that every test of this room has."""

from pathlib import Path

import pytest

from streams.broker import Broker
from streams.topics import Topics
from tests.deploy.recovery.stage import Stage


@pytest.fixture
def stage(broker: Broker, topics: Topics, tmp_path: Path) -> Stage:
    return Stage(tmp_path, broker, topics)
