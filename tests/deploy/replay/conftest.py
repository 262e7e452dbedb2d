"""Provide the stage for every test of this folder."""

from pathlib import Path

import pytest

from streams.kafka.settings import Broker
from streams.topics import Topics
from tests.deploy.replay.stage import Stage


@pytest.fixture
def stage(broker: Broker, topics: Topics, tmp_path: Path) -> Stage:
    return Stage(tmp_path, broker, topics)
