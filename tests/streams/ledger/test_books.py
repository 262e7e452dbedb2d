"""A real router and a ledger on a real Kafka: the audit names skipped events, and repeated ones change no count."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.kafka.settings import Broker
from streams.ledger.audit import AuditReport, Finding, Problem
from streams.ledger.ingester import Ingester
from streams.ledger.kafka_audit import KafkaAuditor, audit_with_kafka
from streams.ledger.lookup import places_of_message, story_of
from streams.ledger.sqlite_store import SqliteReader, SqliteStore
from streams.records.event import Origin
from streams.topics import Topics
from tests.streams.routing.test_router import EVERYTHING, PURCHASES, Bench, event, route

pytestmark = pytest.mark.anyio


async def move(broker: Broker, topics: Topics, by: int) -> int:
    """Move the committed offset of the stopped router's group in partition 0; returns the old one."""
    consumer = AIOKafkaConsumer(**broker.client(), group_id=f"{topics.prefix}.router", enable_auto_commit=False)
    await consumer.start()
    try:
        part = TopicPartition(topics.events, 0)
        consumer.assign([part])
        old = await consumer.committed(part)
        await consumer.commit({part: old + by})
        return old
    finally:
        await consumer.stop()


async def audited(broker: Broker, topics: Topics, folder: Path) -> AuditReport:
    async with KafkaAuditor(broker, topics, ["one", "two"]) as kafka:
        return await audit_with_kafka(SqliteReader(folder, None), kafka, 0, patience=120)


def counted(folder: Path) -> Counter[tuple[str, str, str]]:
    found: Counter[tuple[str, str, str]] = Counter()
    for count in SqliteReader(folder, None).counts(0, 2**40):
        found[count.key.integration, count.key.rule, count.key.outcome] += count.number
    return found


async def test_skipped_events_are_named_and_repeated_events_count_once(broker: Broker, topics: Topics, tmp_path: Path):
    """The group's offset moves forward by 10, and back by 500, while the router is stopped."""
    bench = Bench(broker, topics, [route(topics, "one", PURCHASES), route(topics, "two", EVERYTHING)])
    store = SqliteStore(tmp_path, None, 7)
    ingester = Ingester(broker, topics, store)
    running = asyncio.create_task(ingester.run())
    await bench.route(*[event(number) for number in range(600)], b"{broken", None)
    report = await audited(broker, topics, tmp_path)
    assert report.balanced, report.findings
    assert (report.events, report.rejected) == (602, 1)
    before = counted(tmp_path)
    assert before["", "", "read"] == 602
    assert before["one", "purchase", "forwarded"] == 600

    assert await move(broker, topics, -500) == 602
    async with bench.running():
        pass
    report = await audited(broker, topics, tmp_path)
    assert report.balanced, report.findings
    assert counted(tmp_path) == before

    # The next 10 events are never read.
    await bench.send(*[event(number) for number in range(1000, 1030)])
    assert await move(broker, topics, 10) == 602
    async with bench.running():
        pass
    report = await audited(broker, topics, tmp_path)
    assert report.findings == [Finding(Problem.LOST, topics.events, 0, 602, 611)]
    assert report.problems.total() == 10
    assert counted(tmp_path)["", "", "read"] == 622
    assert places_of_message(store, "m1000") == []
    assert places_of_message(store, "m1010") == [Origin(topics.events, 0, 612)]
    story = story_of(store, Origin(topics.events, 0, 612))
    assert story is not None
    assert {(each.integration, each.rule, each.outcome) for each in story.outcomes} == {
        ("one", "purchase", "forwarded"),
        ("two", "otherwise", "forwarded"),
    }
    ingester.stop()
    await running
    store.close()
