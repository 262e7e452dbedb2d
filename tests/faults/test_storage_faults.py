"""Faults in the middle of objects, on real Kafka: every row is in exactly one object, whatever was killed."""

import asyncio
import signal
from collections import Counter
from itertools import chain, pairwise
from pathlib import Path

import pytest
from pyarrow import parquet

from tests.faults import oracle
from tests.faults.harness import Process, Stage, staged
from tests.support import real_kafka

pytestmark = [pytest.mark.anyio, pytest.mark.kafka, pytest.mark.fault]

LAKE = """
integration: lake
forwarder: object_storage
settings: {{url: 'file://{folder}/objects', records: 100, interval: 2}}
delivery: {{spool: '{folder}/spool'}}
rules:
  - {{name: row, map: {{n: $.properties.n, text: $.properties.text}}}}
"""


class Lake:
    """Objects in a folder, written by forwarders that come and go."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.folder = stage.folder / "lake"
        self._rows: dict[Path, list[int]] = {}
        (stage.folder / "integrations" / "lake.yaml").write_text(LAKE.format(folder=self.folder))

    async def forwarder(self) -> Process:
        """One more forwarder."""
        return await self.stage.start("forwarder", "lake").ready(90)

    def objects(self) -> list[Path]:
        """What is written, by partition and offset."""
        return sorted(self.folder.glob("objects/*/*/*.parquet"))

    async def grow(self, by: int) -> None:
        """Wait for a number of further objects."""
        wanted = len(self.objects()) + by
        await self.stage.until(lambda: len(self.objects()) >= wanted, 120)

    def rows(self) -> Counter[int]:
        """How often each number is in an object."""
        for path in self.objects():
            if path not in self._rows:
                self._rows[path] = parquet.read_table(path, partitioning=None).column("n").to_pylist()
        return Counter(chain.from_iterable(self._rows.values()))

    async def verdict(self) -> None:
        """Send more data until all objects with accepted events have ended, then judge."""
        accepted = set(self.stage.accepted)
        async with asyncio.timeout(180):
            while not accepted <= self.rows().keys():
                await self.stage.send(100)
                await asyncio.sleep(0.5)
        twice = [n for n, count in self.rows().items() if count > 1]
        assert not twice, f"{len(twice)} rows are in two objects: {sorted(twice)[:20]}"
        for partition in (self.folder / "objects").glob("*/*"):
            extents = [tuple(map(int, path.stem.split("-"))) for path in sorted(partition.iterdir())]
            assert extents[0][0] == 0, "something is left of what a kill cut short"
            assert all(last + 1 == first for (_, last), (first, _) in pairwise(extents)), extents
        async with asyncio.timeout(180):
            while True:
                findings = await oracle.find(self.stage.broker, self.stage.topics)
                places = {name: place for place, name in findings.messages.items()}
                outcomes = (findings.outcomes[places[f"m{n}"]]["lake"] for n in accepted)
                if all(set(found.values()) == {"delivered"} for found in outcomes):
                    break
                await asyncio.sleep(0.5)
        print(f"{len(accepted)} events in {len(self.objects())} objects")


@pytest.fixture
async def lake(kafka: real_kafka.Kafka, tmp_path: Path):
    async with staged(kafka, tmp_path / "stage") as stage:
        lake = Lake(stage)
        assert await stage.start("topics", "--create").end(0) == 0
        stage.start("router")
        yield lake


async def test_kill_in_the_middle_of_objects(lake: Lake):
    """Four kill -9 of the only forwarder, each while objects are open and being written: no row is lost or twice."""
    async with lake.stage.load(batch=20):
        for _ in range(4):
            forwarder = await lake.forwarder()
            await lake.grow(by=5)
            await forwarder.end(signal.SIGKILL)
        await lake.forwarder()
    await lake.verdict()


async def test_forwarders_that_join_leave_and_die(lake: Lake):
    """Rebalances during objects, by joins, SIGTERM and kill -9, lose and duplicate no row and do not stop progress."""
    steady = await lake.forwarder()
    async with lake.stage.load(batch=20):
        for number in (signal.SIGTERM, signal.SIGKILL) * 2:
            joined = await lake.forwarder()
            await lake.grow(by=5)
            assert await joined.end(number) in (0, -signal.SIGKILL)
    await lake.verdict()
    assert steady.runs
