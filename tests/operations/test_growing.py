"""Partitions are added as documented in deploy/docs/operations/partitions.md."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace as with_changes

import pytest

from tests.faults.harness import Process, Stage
from tests.faults.oracle import Findings
from tests.operations.steps import more, stop
from tests.support.reading import read

pytestmark = [pytest.mark.anyio, pytest.mark.kafka, pytest.mark.operations]

GROWN = 6


async def test_growing_partitions(stage: Stage):
    """Partitions are added only when nothing waits; afterwards all are used, and each user's events stay in order."""
    settings, integration = stage.folder / "turnout.yaml", stage.folder / "integrations" / "hook.yaml"
    integration.write_text(integration.read_text().replace("delivery: {", "delivery: {ordered: true, "))
    present = settings.read_text()
    grown = present.replace("partitions: 4", f"partitions: {GROWN}")
    await stage.send(20)
    settings.write_text(grown)
    assert "not finished by the group" in await _grow(stage, 1)
    settings.write_text(present)
    workers = await _start_workers(stage)
    assert "of the group" in await _grow(stage, 1)
    async with stage.load(batch=10):
        await more(stage)
        # Clients repeat their requests until a collector is there again.
        await stop(stage.processes[1])
        await stage.until(lambda: set(stage.received) >= stage.accepted)
        for worker in workers:
            await stop(worker)
        ends = await _ends(stage)
        settings.write_text(grown)
        await _grow(stage, 0)
        stage.topics = with_changes(stage.topics, partitions=GROWN)
        await _start_workers(stage)
        stage.start("collector")
        await stage.serving()
        await more(stage)
    findings = await stage.verdict()
    assert {partition for partition, _ in findings.messages} == set(range(GROWN))
    _assert_order(stage, findings, ends)


async def _grow(stage: Stage, code: int) -> str:
    """Run `turnout topics --grow`; return its output."""
    command = stage.start("topics", "--grow")
    assert await command.end(0, 90) == code, command.log.read_text()
    return command.log.read_text()


async def _start_workers(stage: Stage) -> list[Process]:
    workers = [stage.start("router"), stage.start("forwarder")]
    return [await worker.ready(180) for worker in workers]


async def _ends(stage: Stage) -> Mapping[int, int]:
    """Return the end of each partition of the events topic."""
    ends: defaultdict[int, int] = defaultdict(int)
    for record in await read(stage.broker, stage.topics.events, stage.topics.partitions):
        ends[record.partition] = max(ends[record.partition], record.offset + 1)
    return ends


def _assert_order(stage: Stage, findings: Findings, ends: Mapping[int, int]) -> None:
    """Compare each user's deliveries with Kafka's order: events before the growth come first."""
    by_user: defaultdict[int, list[tuple[bool, int, int]]] = defaultdict(list)
    for number in stage.received:
        (partition, offset), *_ = findings.places[f"m{number}"]
        by_user[number % 17].append((offset >= ends.get(partition, 0), partition, offset))
    assert len(by_user) == 17
    for places in by_user.values():
        assert places == sorted(places)
        assert {after for after, *_ in places} == {False, True}
