"""Past events are sent beside live ones as documented in deploy/docs/operations/backfill.md."""

import asyncio
import signal
import sys
import time
from collections import Counter
from collections.abc import Coroutine
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import orjson
import pytest

from tests.faults.harness import Stage
from tests.operations.steps import run, start_all

pytestmark = [pytest.mark.anyio, pytest.mark.kafka, pytest.mark.operations]

PAST = 600
RATE = 100
"""Events per second of the past; the vendor takes 400."""

HISTORY = f"""
source: history
write_keys: ['${{FAULTS_HISTORY_KEY}}']
limits: {{events_per_second: {RATE}, burst: 1, batch_events: 50}}
"""


class Live:
    """Live events, one after the other, with how long each took and how many others the vendor received meanwhile."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.seconds: list[float] = []
        self.others: list[int] = []

    async def send_during(self, work: Coroutine[Any, Any, Any]) -> None:
        """Send events until the work is done."""
        task = asyncio.create_task(work)
        while not task.done():
            await self.send()
        await task

    async def send(self) -> None:
        """Send an event, and wait until the vendor has received it."""
        received = self.stage.received
        begin, before = time.monotonic(), len(received)
        (number,) = await self.stage.send(1)
        await self.stage.until(lambda: number in received[before:])
        self.seconds.append(time.monotonic() - begin)
        self.others.append(received[before:].index(number))


async def test_a_backfill_does_not_delay_live_events(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    """A replay, and a file sent to a source with a limit, leave room: live events do not wait for all of the past."""
    monkeypatch.setenv("FAULTS_HISTORY_KEY", "write-key-of-history")
    integration = stage.folder / "integrations" / "hook.yaml"
    integration.write_text(integration.read_text().replace("delivery: {", "delivery: {requests_per_second: 20, "))
    collector = stage.processes[1]
    await collector.end(signal.SIGTERM, 60)
    (stage.folder / "sources" / "history.yaml").write_text(HISTORY)
    stage.start("collector")
    await start_all(stage, "router", "forwarder")
    await stage.serving()
    begin = datetime.now(UTC)
    past = [number for _ in range(PAST // 100) for number in await stage.send(100)]
    await stage.until(lambda: set(stage.received) >= stage.accepted)
    alone = Live(stage)
    for _ in range(10):
        await alone.send()

    beside_replay = Live(stage)
    period = ["--since", begin.isoformat(), "--until", datetime.now(UTC).isoformat()]
    command = ["replay", "--integration", "hook", *period, "--force", "--yes", "--rate", str(RATE)]
    await beside_replay.send_during(run(stage, *command))
    await stage.until(lambda: all(times > 1 for number, times in Counter(stage.received).items() if number in past))

    numbers = stage.take(PAST)
    file = stage.folder / "past.ndjson"
    file.write_bytes(b"\n".join(orjson.dumps(stage.event(number)) for number in numbers))
    stage.accepted.update(numbers)
    beside_file = Live(stage)
    await beside_file.send_during(_send_file(file, f"http://127.0.0.1:{stage.port}"))
    for name, live in {"alone": alone, "replay": beside_replay, "file": beside_file}.items():
        print(f"{name}: median {median(live.seconds):.3f} s of {len(live.seconds)}, others at most {max(live.others)}")
    for live in (beside_replay, beside_file):
        assert len(live.others) > 3
        assert max(live.others) < PAST / 2
    stage.bound = PAST + len(beside_replay.seconds) + 10
    await stage.verdict()


async def _send_file(file: Path, url: str) -> None:
    command = ["-m", "deploy.cli.main", "send", str(file), "--url", url, "--write-key", "FAULTS_HISTORY_KEY"]
    process = await asyncio.create_subprocess_exec(sys.executable, *command)
    assert await process.wait() == 0
