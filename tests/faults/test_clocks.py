"""Workers whose machine's clock is two days wrong: they name it, lose nothing and let nothing expire."""

import ctypes.util
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.faults.harness import Stage, staged
from tests.operations.steps import audited, with_ledger
from tests.support import real_kafka
from tests.support.reading import read

pytestmark = [pytest.mark.anyio, pytest.mark.kafka, pytest.mark.fault]

LIBRARY = next(
    (str(path) for folder in ("/usr/lib", "/usr/local/lib") for path in Path(folder).rglob("libfaketime.so.1")),
    ctypes.util.find_library("faketime"),
)
HOUR = 3600


@pytest.fixture
async def stage(kafka: real_kafka.Kafka, tmp_path: Path):
    if LIBRARY is None and not os.environ.get("TURNOUT_TESTS_NEED_FAKETIME"):
        pytest.skip("needs libfaketime (apt-get install faketime)")
    async with staged(kafka, tmp_path / "stage") as stage:
        yield stage


@pytest.mark.parametrize(("offset", "named"), [("+48h", "48 h ahead of"), ("-48h", "48 h behind")])
async def test_a_clock_that_is_two_days_wrong(stage: Stage, monkeypatch: pytest.MonkeyPatch, offset: str, named: str):
    """Events that expire in 30 hours arrive, and all records have Kafka's time."""
    with_ledger(stage)
    hook = stage.folder / "integrations" / "hook.yaml"
    hook.write_text(hook.read_text().replace("delivery: {", "delivery: {max_age: 216000, "))
    assert LIBRARY is not None
    with monkeypatch.context() as wrong:
        wrong.setenv("LD_PRELOAD", LIBRARY)
        wrong.setenv("FAKETIME", offset)
        wrong.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        workers = [stage.start(kind) for kind in ("ledger", "router", "forwarder")]
    for worker in workers:
        text = (await worker.ready(180)).log.read_text()
        assert f"this machine's clock is {named} Kafka's" in text, text
    happened = datetime.now(UTC) - timedelta(hours=30)
    await stage.send(200, timestamp=happened.isoformat(), sentAt=datetime.now(UTC).isoformat())
    await stage.until(lambda: set(stage.received) >= stage.accepted)
    await audited(stage, "web     hook              200       200          0        0")
    assert sorted(stage.received) == sorted(stage.accepted)
    for topic in (stage.topics.forward("hook"), stage.topics.outcomes):
        for record in await read(stage.broker, topic, stage.topics.partitions):
            assert abs(record.timestamp / 1000 - time.time()) < HOUR
