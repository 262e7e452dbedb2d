"""A deleted topic is recreated as documented in deploy/docs/operations/deleted-topic.md."""

import asyncio
import signal

import pytest
from kafka import KafkaAdminClient

from tests.faults.harness import Stage
from tests.operations.steps import audited, end_all, run, start_all, start_anew, stop, with_ledger

pytestmark = [pytest.mark.anyio, pytest.mark.kafka, pytest.mark.operations]


async def test_a_deleted_forward_topic(stage: Stage):
    """The router waits for it; once it is created again, a replay sends the deliveries that waited in it."""
    with_ledger(stage)
    await stage.start("ledger").ready(180)
    router = await stage.start("router").ready(180)
    forwarder = await stage.start("forwarder").ready(180)
    await stage.send(200)
    await _until_received(stage)
    await stop(forwarder)
    await stage.send(100)
    await _until_routed(stage, 100)
    await _delete(stage, stage.topics.forward("hook"))
    await stage.send(50)
    missing = f"Topic {stage.topics.forward('hook')} not found"
    await stage.until(lambda: not router.runs or missing in router.log.read_text())
    # It cannot finish its batch, and leaves it to the next router.
    await router.end(signal.SIGTERM, 60)
    await run(stage, "topics", "--create")
    await stage.start("router").ready(180)
    await stage.start("forwarder").ready(180)
    await stage.send(50)
    await stage.until(lambda: len(stage.received) >= 300)
    report = await run(stage, "replay", "--integration", "hook", "--undelivered", "--since", "1h", "--force", "--yes")
    assert "100  forwarded" in report
    await _until_received(stage)
    await stage.verdict()


async def test_a_deleted_events_topic(stage: Stage):
    """Once it is created again, and what named its old offsets is removed, events flow and the books balance."""
    with_ledger(stage)
    await start_all(stage, "ledger", "router", "forwarder")
    await stage.send(200)
    await _until_received(stage)
    await _delete(stage, stage.topics.events)
    await end_all(stage)
    await _delete(stage, stage.topics.outcomes, stage.topics.rejected, stage.topics.dead)
    (stage.folder / "the-ledger").rename(stage.folder / "the-old-ledger")
    await start_anew(stage)
    await stage.send(100)
    await _until_received(stage)
    await stage.verdict()
    await audited(stage, "101 events")


async def _until_received(stage: Stage) -> None:
    await stage.until(lambda: set(stage.received) >= stage.accepted)


async def _until_routed(stage: Stage, waiting: int) -> None:
    """Wait until the ledger has this many deliveries in flight."""
    async with asyncio.timeout(180):
        while f"{waiting} deliveries in flight" not in await run(stage, "audit"):
            await asyncio.sleep(0.5)


async def _delete(stage: Stage, *topics: str) -> None:
    """Delete topics, as by mistake."""
    admin = KafkaAdminClient(**stage.broker.client())
    await asyncio.to_thread(admin.delete_topics, list(topics))
    await asyncio.to_thread(admin.close)
