"""A replay that is killed in the middle of load, then the oracle's verdict."""

import signal
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.faults.harness import staged
from tests.support import real_kafka

pytestmark = [pytest.mark.anyio, pytest.mark.kafka, pytest.mark.fault]

PAST = 600
RATE = 150


async def test_a_replay_that_is_killed_and_gone_on_with(kafka: real_kafka.Kafka, tmp_path: Path):
    """Every past event is delivered again, and repeated only if it was sent after the last stored position.

    What is live meanwhile arrives as ever, and every event still has one outcome.
    """
    async with staged(kafka, tmp_path / "stage") as stage:
        stage.start("router")
        stage.start("forwarder")
        begin = datetime.now(UTC)
        past = [n for _ in range(PAST // 100) for n in await stage.send(100)]
        await stage.until(lambda: len(stage.received) == PAST)
        end = datetime.now(UTC)
        command = ["replay", "--integration", "hook", "--from", begin.isoformat(), "--to", end.isoformat()]
        command += ["--force", "--yes", "--rate", str(RATE)]

        def again() -> int:
            return sum(count - 1 for n, count in Counter(stage.received).items() if n < PAST)

        async with stage.load(batch=10, pause=0.1):
            killed = stage.start(*command)
            await stage.until(lambda: again() > PAST // 4, 120)
            await killed.end(signal.SIGKILL)
            assert await stage.start(*command).end(0, 120) == 0
            await stage.until(lambda: all(count > 1 for n, count in Counter(stage.received).items() if n < PAST), 120)
        assert await stage.start(*command).end(0, 120) == 0
        stage.bound = PAST + RATE
        findings = await stage.verdict()
        assert all(findings.of(f"m{n}", "hook") == {"delivered"} for n in past)
        assert again() <= PAST + RATE
