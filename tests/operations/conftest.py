"""Build the image once per session, and provide the stage of a procedure."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults.harness import Stage, staged
from tests.support import image, real_kafka
from tests.support.image import ImageTools

TAG = "turnout:test"


@pytest.fixture(scope="session")
def image_tools(tmp_path_factory: pytest.TempPathFactory) -> ImageTools:
    """Return tools with the built image; skips if they are missing, unless TURNOUT_TESTS_NEED_IMAGE is set."""
    reason = image.why_not()
    if reason and not os.environ.get(image.REQUIRED):
        pytest.skip(reason)
    folder: Path = tmp_path_factory.mktemp("image")
    tools = ImageTools(folder)
    tools.build(TAG)
    return tools


@pytest.fixture
async def stage(kafka: real_kafka.Kafka, tmp_path: Path) -> AsyncIterator[Stage]:
    """Run Turnout on the real Kafka, with a ready collector."""
    async with staged(kafka, tmp_path / "stage") as stage:
        yield stage
