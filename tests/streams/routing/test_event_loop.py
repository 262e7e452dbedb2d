"""The router yields to other tasks while it routes a batch."""

import asyncio
import time
from itertools import pairwise
from types import SimpleNamespace

import orjson
import pytest

from streams.kafka.offsets import OffsetTracker
from streams.kafka.settings import Broker
from streams.records.event import event_headers
from streams.routing import router as router_module
from streams.routing.dedupe import Windows
from streams.routing.router import Router
from streams.routing.ruleset import CurrentRules, Route, RuleSet
from streams.sources.source import Source, Sources
from streams.suppression.filter import SuppressedUsers
from streams.topics import Topics
from streams.worker.guard import Guard
from tests.support.in_process import Nobody
from tests.support.local_producer import LocalProducer
from transforms import read_rules
from transforms.documents import Document

pytestmark = pytest.mark.anyio

TOPICS = Topics(prefix="t", partitions=1)
EVENTS, INTEGRATIONS = 300, 25


def make_router(producer: LocalProducer) -> Router:
    """A router with 25 integrations that take every event whole."""
    rules, _ = read_rules(Document.parse("otherwise: {event: $}", "all.yaml"))
    assert rules
    routes = [Route(f"i{number}", TOPICS.forward(f"i{number}"), rules.apply) for number in range(INTEGRATIONS)]
    return Router(
        CurrentRules(RuleSet("v1", Sources([Source.of("web", ["key"])]), routes)),
        TOPICS,
        producer,
        Windows(Broker(), 1000, "g", TOPICS),
        Nobody(Broker(), TOPICS.suppressed, SuppressedUsers(), "g"),
        Guard("router", lambda error: pytest.fail(str(error))),
        time.time,
    )


def large_events() -> list[SimpleNamespace]:
    """Records of events of 8 KB."""
    return [
        SimpleNamespace(
            topic=TOPICS.events, partition=0, offset=number, timestamp=0, key=b"u", headers=tuple(event_headers("web")),
            value=orjson.dumps({
                "type": "track", "event": "Order", "userId": "u", "messageId": f"m{number}",
                "properties": {"text": "x" * 8000},
            }),
        )
        for number in range(EVENTS)
    ]  # fmt: skip


@pytest.mark.parametrize("event_seconds", [0.001, 0.004, 0.018])
async def test_others_have_their_turn_while_large_events_are_routed(
    monkeypatch: pytest.MonkeyPatch, event_seconds: float
):
    """Other tasks run after 20 ms of routing at most, by a clock that counts a fixed time for each event."""
    now = 0.0
    turns: list[float] = []
    route = Router._route

    def timed(*arguments):
        nonlocal now
        now += event_seconds
        return route(*arguments)

    async def other() -> None:
        while True:
            turns.append(now)
            await asyncio.sleep(0)

    monkeypatch.setattr(router_module, "perf_counter", lambda: now)
    monkeypatch.setattr(Router, "_route", timed)
    progress = OffsetTracker(1 << 30)
    batch = progress.open((TOPICS.events, 0), large_events())
    producer = LocalProducer()
    running = asyncio.create_task(other())
    try:
        await make_router(producer).work(batch)
        while progress.committable((TOPICS.events, 0)) != EVENTS:
            await asyncio.sleep(0)
    finally:
        running.cancel()
    assert len(producer.records[TOPICS.forward("i24")]) == EVENTS
    assert now == pytest.approx(EVENTS * event_seconds)
    held = [later - before for before, later in pairwise(turns)]
    assert 0 < max(held) <= 0.02
