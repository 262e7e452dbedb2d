"""Brokers are lost and replaced as documented in deploy/docs/operations/lost-broker.md."""

import asyncio
import time
from pathlib import Path

import pytest
from kafka import KafkaAdminClient

from tests.faults.harness import Stage, staged
from tests.operations.steps import end_all, more, start_all, start_anew, with_ledger
from tests.support import real_kafka

pytestmark = [pytest.mark.anyio, pytest.mark.kafka, pytest.mark.operations]


@pytest.fixture(autouse=True)
def _needs_kafka(kafka: real_kafka.Kafka) -> None:
    """Skip like the shared Kafka."""


async def test_one_of_three_brokers_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Events flow on without a broker; it comes back with its data, then another one with an empty disk."""
    monkeypatch.setenv("TURNOUT_REPLICATION", "3")
    with real_kafka.cluster(tmp_path / "kafka") as nodes:
        bootstrap = ",".join(node.bootstrap for node in nodes)
        async with staged(real_kafka.Kafka(bootstrap), tmp_path / "stage") as stage:
            await stage.start("router").ready(180)
            await stage.start("forwarder").ready(180)
            async with stage.load(batch=10):
                await more(stage)
                await _kill(stage, nodes[2])
                await more(stage)
                await asyncio.to_thread(nodes[2].start)
                await _until_replicated(stage)
                await _kill(stage, nodes[1])
                nodes[1].lose_data()
                await more(stage)
                await asyncio.to_thread(nodes[1].start)
                await _until_replicated(stage)
                await more(stage)
            await stage.verdict()
            assert all(process.runs for process in stage.processes[1:])


async def _kill(stage: Stage, node: real_kafka.KafkaNode) -> None:
    """Kill a broker; commits wait for the next leader, so all since the last one may come again."""
    stage.allow_for_kill(0.2)
    at = time.time()
    await asyncio.to_thread(node.kill)
    await more(stage, 1)
    await stage.allow_for_rerouting(at)


async def _until_replicated(stage: Stage) -> None:
    """Wait until every partition is on three brokers again."""

    def under_replicated() -> list[str]:
        admin = KafkaAdminClient(**stage.broker.client())
        try:
            topics = admin.describe_topics()
        finally:
            admin.close()
        return [topic["name"] for topic in topics if any(len(each["isr_nodes"]) < 3 for each in topic["partitions"])]

    async with asyncio.timeout(180):
        while await asyncio.to_thread(under_replicated):
            await asyncio.sleep(0.5)


async def test_the_only_broker_loses_its_disk(tmp_path: Path):
    """What was delivered stays delivered; after the topics are created again, new events flow and the books balance."""
    with real_kafka.running(tmp_path / "kafka") as kafka:
        async with staged(kafka, tmp_path / "stage") as stage:
            with_ledger(stage)
            await start_all(stage, "ledger", "router", "forwarder")
            await stage.send(200)
            await stage.until(lambda: set(stage.received) >= stage.accepted)
            await asyncio.to_thread(kafka.kill)
            kafka.lose_data()
            await asyncio.to_thread(kafka.start)
            await end_all(stage)
            (stage.folder / "the-ledger").rename(stage.folder / "the-old-ledger")
            await start_anew(stage)
            await stage.send(100)
            await stage.until(lambda: set(stage.received) >= stage.accepted)
            await stage.verdict()
