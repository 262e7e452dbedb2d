"""Kafka removes records that stopped workers have not read, and the books balance including the lost events."""

import asyncio
import json
import signal
from collections import Counter
from pathlib import Path

import pytest
from kafka import TopicPartition
from kafka.admin import KafkaAdminClient

from streams.records.delivery import DeliveryRecord
from tests.faults.harness import Stage, staged
from tests.operations.steps import audited, run, stop, with_ledger
from tests.support import real_kafka
from tests.support.reading import committed, read

pytestmark = [pytest.mark.anyio, pytest.mark.kafka, pytest.mark.fault]


@pytest.fixture
async def stage(kafka: real_kafka.Kafka, tmp_path: Path):
    async with staged(kafka, tmp_path / "stage") as stage:
        with_ledger(stage)
        yield stage


async def remove(stage: Stage, topic: str, group: str, share: float) -> dict[int, tuple[int, int]]:
    """Remove a share of the records that a group has not read; return the first and last lost offset by partition."""
    admin = KafkaAdminClient(**stage.broker.client())
    done = await committed(stage.broker, group, topic, stage.topics.partitions)
    ends: Counter[int] = Counter()
    for record in await read(stage.broker, topic, stage.topics.partitions):
        ends[record.partition] = record.offset + 1
    lost = {
        part: (done[part] or 0, (done[part] or 0) + int(share * (end - (done[part] or 0))))
        for part, end in ends.items()
    }
    lost = {part: span for part, span in lost.items() if span[0] < span[1]}
    wanted = {TopicPartition(topic, part): end for part, (_, end) in lost.items()}
    await asyncio.to_thread(admin.delete_records, wanted)
    await asyncio.to_thread(admin.close)
    return {part: (first, end - 1) for part, (first, end) in lost.items()}


async def test_retention_overtakes_a_router_and_a_forwarder(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    """What was removed is lost, everything else arrives, and audit, counts and why say so."""
    topics, forward = stage.topics, stage.topics.forward("hook")
    await stage.start("ledger").ready(180)
    router = await stage.start("router").ready(180)
    forwarder = await stage.start("forwarder").ready(180)
    await stage.send(200)
    await stage.until(lambda: set(stage.received) >= stage.accepted)
    await stop(forwarder)
    await stage.send(400)
    await audited(stage, "400 deliveries in flight")
    removed = await remove(stage, forward, topics.forwarder_group("hook"), 0.5)
    deliveries = sum(last - first + 1 for first, last in removed.values())
    assert deliveries > 100

    monkeypatch.setenv("TURNOUT_ON_GAP", "stop")
    stopped = stage.start("forwarder")
    assert await stopped.end(0, 120) == 1
    assert "retention removed the records from offset" in stopped.log.read_text()
    assert len(set(stage.received)) == 200
    monkeypatch.delenv("TURNOUT_ON_GAP")

    forwarder = await stage.start("forwarder").ready(180)
    await stage.until(lambda: len(set(stage.received)) == 600 - deliveries)
    await audited(stage, "the books balance")
    await _until_counted(stage, {("hook", "delivered"): 600 - deliveries, ("hook", "lost"): deliveries})

    await router.end(signal.SIGTERM, 60)
    await stage.send(300)
    removed = await remove(stage, topics.events, topics.router_group, 0.4)
    events = sum(last - first + 1 for first, last in removed.values())
    assert events > 50
    await stage.start("router").ready(180)
    await stage.until(lambda: len(set(stage.received)) == 900 - deliveries - events)
    await audited(stage, f"{events} events lost")
    await _until_counted(
        stage, {("hook", "delivered"): 900 - deliveries - events, ("hook", "lost"): deliveries, ("", "lost"): events}
    )
    assert "the books balance" in await run(stage, "audit")
    assert len(stage.received) == len(set(stage.received))

    part, (first, _) = next(iter(removed.items()))
    assert "Kafka's retention removed it" in await run(stage, "why", "--at", f"{topics.events}:{part}:{first}")
    left = {DeliveryRecord.decode(record.value).id for record in await read(stage.broker, forward, topics.partitions)}
    gone = next(f"m{n}" for n in range(200, 600) if f"m{n}" not in left and n not in stage.received)
    assert "lost" in await run(stage, "why", gone)


async def _until_counted(stage: Stage, expected: dict[tuple[str, str], int]) -> None:
    async with asyncio.timeout(120):
        while True:
            report = json.loads(await run(stage, "counts", "--json"))
            found = {(row["integration"], row["outcome"]): row["count"] for row in report["rows"]}
            if found == expected:
                return
            await asyncio.sleep(0.5)
