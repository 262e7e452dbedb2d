"""Records that retention removed before a worker read them are recorded as lost, or stop it; on a real Kafka."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as Part
from kafka import TopicPartition
from kafka.admin import KafkaAdminClient
from prometheus_client import REGISTRY

from streams.kafka.gaps import Gap
from streams.kafka.settings import Broker
from streams.ledger.audit import AuditReport
from streams.ledger.ingester import Ingester
from streams.ledger.kafka_audit import KafkaAuditor, audit_with_kafka
from streams.ledger.sqlite_store import SqliteReader, SqliteStore
from streams.records.delivery import Retried
from streams.records.outcomes import LostDeliveries, OutcomeInterval, Outcomes
from streams.topics import Topics
from streams.worker.pipeline import ConsumerPipeline, Processor, make_pipeline
from tests.streams.routing.test_router import Bench as RouterBench
from tests.streams.routing.test_router import event, route
from tests.support.delivering import Bench, Vendor, VendorSettings
from tests.support.reading import committed, read, until
from tests.support.receiver import receiving

pytestmark = pytest.mark.anyio

RETRIED = Retried(1, 0.0, 1.0, "failing").headers()


def remove(broker: Broker, topic: str, before: int) -> None:
    """Remove the first records of partition 0, like retention."""
    admin = KafkaAdminClient(**broker.client())
    admin.delete_records({TopicPartition(topic, 0): before})
    admin.close()


def test_a_gap_is_lost_but_for_its_finished_ranges():
    """Ranges may reach beyond the gap on both sides."""
    gap = Gap("t", 0, 10, 20, [(8, 12), (13, 14), (19, 25)])
    assert (gap.lost, gap.records) == ([(12, 13), (14, 19)], 6)
    assert Gap("t", 0, 10, 20).lost == [(10, 20)]


async def losses(broker: Broker, topics: Topics) -> tuple[list[OutcomeInterval], list[LostDeliveries]]:
    """The losses that are recorded in the outcomes topic."""
    spans: list[OutcomeInterval] = []
    deliveries: list[LostDeliveries] = []
    for record in await read(broker, topics.outcomes):
        outcomes = Outcomes.decode(record.value)
        spans += [span for span in outcomes.spans if span.outcome == "lost"]
        deliveries += outcomes.lost
    return spans, deliveries


@asynccontextmanager
async def ledger(broker: Broker, topics: Topics, folder: Path) -> AsyncIterator[SqliteReader]:
    store = SqliteStore(folder, None, 7)
    ingester = Ingester(broker, topics, store)
    running = asyncio.create_task(ingester.run())
    reader = SqliteReader(folder, None)
    try:
        yield reader
    finally:
        reader.close()
        ingester.stop()
        await running
        store.close()


async def audited(broker: Broker, topics: Topics, reader: SqliteReader) -> AuditReport:
    async with KafkaAuditor(broker, topics, ["one"]) as kafka:
        return await audit_with_kafka(reader, kafka, 0, patience=60)


async def test_events_that_a_router_could_not_read_are_lost(broker: Broker, topics: Topics, tmp_path: Path):
    """The router names their offsets once, routes the others, and the books balance."""
    router = RouterBench(broker, topics, [route(topics, "one", "otherwise: drop")])
    await router.route(*(event(n) for n in range(50)))
    await router.send(*(event(n) for n in range(50, 150)))
    await asyncio.to_thread(remove, broker, topics.events, 120)
    async with router.running():
        await until(lambda: router.is_done, 60)
    await router.route(event(150))
    spans, _ = await losses(broker, topics)
    assert spans == [OutcomeInterval("", "", "lost", 50, 119, "retention")]
    async with ledger(broker, topics, tmp_path) as reader:
        report = await audited(broker, topics, reader)
    assert report.balanced
    assert (report.lost, report.lines[0].accepted) == (70, report.events)


async def test_a_topic_that_lost_all_its_records(broker: Broker, topics: Topics):
    """The loss is recorded when the router starts, not when the next event comes."""
    router = RouterBench(broker, topics, [])
    await router.route(*(event(n) for n in range(10)))
    await router.send(*(event(n) for n in range(10, 30)))
    await asyncio.to_thread(remove, broker, topics.events, 30)
    async with router.running():
        await until(lambda: router.is_done, 60)
    spans, _ = await losses(broker, topics)
    assert spans == [OutcomeInterval("", "", "lost", 10, 29, "retention")]


async def test_deliveries_that_a_forwarder_could_not_read_are_lost(broker: Broker, topics: Topics, tmp_path: Path):
    """The ledger finds them; those that were delivered or are left are not lost, and the books balance."""
    router = RouterBench(broker, topics, [route(topics, "one", "otherwise: {n: $.properties.n}")])
    bench = Bench(broker, topics)
    before = REGISTRY.get_sample_value("turnout_lost_records_total", {"topic": topics.forward("one")}) or 0
    async with receiving() as vendor, ledger(broker, topics, tmp_path) as reader:
        forwarder = Vendor(VendorSettings(url=vendor.url))
        await router.route(*(event(n, properties={"n": n}) for n in range(20)))
        async with bench.running(forwarder):
            await until(lambda: sum(len(got.body) for got in vendor.got) == 20)
        await router.route(*(event(n, properties={"n": n}) for n in range(20, 60)))
        await asyncio.to_thread(remove, broker, topics.forward("one"), 45)
        async with bench.running(forwarder):
            await until(lambda: sum(len(got.body) for got in vendor.got) == 35)
            report = await audited(broker, topics, reader)
            while report.in_flight:
                report = await audited(broker, topics, reader)
    assert report.balanced
    assert report.lines[0][2:] == (60, 35, 0, 0, 25)
    lost = REGISTRY.get_sample_value("turnout_lost_records_total", {"topic": topics.forward("one")}) or 0
    assert lost - before == 25


async def test_retries_that_are_left_are_not_lost(broker: Broker, topics: Topics):
    """A forwarder that lost retries names the deliveries that are left in both topics."""
    bench = Bench(broker, topics)
    await bench.forward(*({"n": n} for n in (50, 51, 40)))
    await bench.forward(*({"n": n} for n in range(10)), retried=RETRIED)
    await asyncio.to_thread(remove, broker, topics.retry("one"), 4)
    async with AIOKafkaConsumer(**broker.client(), group_id=bench.group, enable_auto_commit=False) as group:
        part = Part(topics.retry("one"), 0)
        group.assign([part])
        await group.commit({part: 0})
    async with receiving() as vendor:
        vendor.answer = lambda _: web.Response(status=503)
        async with bench.running(Vendor(VendorSettings(url=vendor.url)), retry_delay=3600):
            async with asyncio.timeout(60):
                while not (found := (await losses(broker, topics))[1]):
                    await asyncio.sleep(0.1)
    assert found == [
        LostDeliveries(
            "one", "retention", topics.retry("one"), 0, 0, 3, 0, 52, [("r", [(4, 9), (40, 40), (50, 51)])]
        )
    ]  # fmt: skip


async def test_a_worker_stops_before_a_gap_if_it_is_set_to(broker: Broker, topics: Topics):
    """The worker names the gap and the remedy, finishes earlier records, and leaves the offset."""
    router = RouterBench(broker, topics, [])
    await router.send(*(event(n) for n in range(30)))
    failed: list[str] = []
    worked: list[int] = []

    @asynccontextmanager
    async def reading() -> AsyncIterator[ConsumerPipeline]:
        async def work(batch) -> None:
            worked.extend(record.offset for record in batch.records)
            batch.finish()

        pipeline = make_pipeline(
            "reader", [topics.events], lambda _: Processor(work), broker,
            fail=failed.append, group=f"{topics.prefix}.reader", commit_interval=0.1, grace=5, on_gap="stop",
        )  # fmt: skip
        await pipeline.app.start()
        try:
            yield pipeline
        finally:
            await pipeline.app.stop()

    async with reading():
        await until(lambda: len(worked) == 30, 60)
    await router.send(*(event(n) for n in range(30, 60)))
    await asyncio.to_thread(remove, broker, topics.events, 50)
    async with reading():
        await until(lambda: bool(failed), 60)
    assert len(failed) == 1
    assert f"{topics.events}:0: retention removed the records from offset 30 to 49" in failed[0]
    assert "set on_gap to `continue`" in failed[0]
    assert worked == list(range(30))
    assert (await committed(broker, f"{topics.prefix}.reader", topics.events, 1)) == {0: 30}
    assert await losses(broker, topics) == ([], [])
