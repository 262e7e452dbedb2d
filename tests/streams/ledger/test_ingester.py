"""A ledger on a real Kafka: killed at any moment it counts nothing twice, and the audit finds lost events."""

import asyncio
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from time import monotonic

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from kafka import KafkaProducer

from streams.kafka.acks import PendingAcks
from streams.kafka.admin import create_topics
from streams.kafka.producer import Producer
from streams.kafka.settings import Broker
from streams.ledger.audit import Finding, Problem
from streams.ledger.ingester import Ingester
from streams.ledger.kafka_audit import KafkaAuditor, audit_with_kafka
from streams.ledger.sqlite_store import SqliteReader, SqliteStore
from streams.ledger.store import LedgerBatch, StoreError
from streams.records.delivery import DeliveryRecord
from streams.records.event import Origin
from streams.records.outcomes import OutcomeInterval, Outcomes, Stage
from streams.records.run_header import RUN_HEADER, EventFacts, encode_run
from streams.topics import Topic, Topics
from tests.streams.ledger.making import START_MS, EventRecord, user
from tests.support.reading import until

pytestmark = pytest.mark.anyio

EVENTS_PER_RUN = 10


class Feed:
    """Writes outcomes of numbered events to Kafka as a router and a forwarder do, some of them twice."""

    def __init__(self, broker: Broker, topics: Topics) -> None:
        self.broker, self.topics = broker, topics
        self.next: Counter[int] = Counter()
        self.chance = random.Random(1)

    async def start(self) -> None:
        self.producer = Producer(self.broker, client_id="feed")
        await self.producer.start()

    async def write(self, runs: int) -> None:
        acks = PendingAcks()
        for _ in range(runs):
            partition = self.chance.randrange(self.topics.partitions)
            first = self.next[partition]
            self.next[partition] += EVENTS_PER_RUN
            for _ in range(self.chance.choice([1, 1, 2])):
                self._run(partition, first, acks)
        await acks.confirmed(120)

    def _run(self, partition: int, first: int, acks: PendingAcks) -> None:
        offsets = range(first, first + EVENTS_PER_RUN)
        header, = encode_run(
            [EventRecord(offset, user(offset), START_MS) for offset in offsets],
            [EventFacts(offset, f"m-{partition}-{offset}", "web", "track", "Order") for offset in offsets],
        )  # fmt: skip
        last = offsets[-1]
        for stage, outcome, headers in (
            (Stage.ROUTER, "forwarded", [(RUN_HEADER, header)]),
            (Stage.FORWARDER, "delivered", []),
        ):
            value = Outcomes(
                stage, self.topics.events, partition, "v1", [OutcomeInterval("ga4", "r", outcome, first, last)]
            ).encode()
            self.producer.append(self.topics.outcomes, partition, acks, key=None, value=value, headers=headers)

    @property
    def events(self) -> int:
        return self.next.total()


def delivered(folder: Path) -> dict[str, int]:
    """What a reader of the folder counts by outcome."""
    reader = SqliteReader(folder, b"key")
    found: dict[str, int] = Counter()
    for count in reader.counts(0, 2**40):
        found[count.key.outcome] += count.number
    reader.close()
    return dict(found)


async def test_a_killed_ledger_counts_every_event_once(broker: Broker, topics: Topics, tmp_path: Path):
    """The process ends by SIGKILL at random moments while it reads; in the end each event counts once."""
    feed = Feed(broker, topics)
    await feed.start()
    arguments = [broker.bootstrap, topics.prefix, str(topics.partitions), str(tmp_path / "ledger")]
    command = [sys.executable, "-m", "tests.streams.ledger.process", *arguments]
    kills = 6
    for kill in range(kills + 1):
        with subprocess.Popen(command) as process:  # noqa: ASYNC220  # it starts in no time
            try:
                before = delivered(tmp_path / "ledger").get("read", 0)
                await feed.write(300)
                deadline = monotonic() + 120
                # At once after some data was committed, or at the end when all was.
                goal = feed.events if kill == kills else before + feed.chance.randrange(1, 2000)
                while delivered(tmp_path / "ledger").get("read", 0) < goal:
                    assert process.poll() is None
                    assert monotonic() < deadline, "the ledger did not read on"
                    await asyncio.sleep(0)
            finally:
                process.send_signal(signal.SIGKILL)
    await feed.producer.stop()
    store = SqliteStore(tmp_path / "ledger", b"key", 7)
    ingester = Ingester(broker, topics, store)
    running = asyncio.create_task(ingester.run())
    await until(lambda: delivered(tmp_path / "ledger").get("delivered", 0) >= feed.events)
    ingester.stop()
    await running
    store.close()
    assert delivered(tmp_path / "ledger") == {"read": feed.events, "delivered": feed.events}


async def commit(broker: Broker, topics: Topics, offset: int, topic: str = "") -> None:
    """Commit the router's offset of partition 0 of a topic, by default of the events."""
    consumer = AIOKafkaConsumer(**broker.client(), group_id=f"{topics.prefix}.router", enable_auto_commit=False)
    await consumer.start()
    part = TopicPartition(topic or topics.events, 0)
    consumer.assign([part])
    await consumer.commit({part: offset})
    await consumer.stop()


async def test_the_audit_finds_events_that_no_router_read(broker: Broker, topics: Topics, tmp_path: Path):
    """Events before the committed offset that are in no run are named; transaction markers are not."""
    producer = KafkaProducer(**broker.client(), transactional_id=topics.prefix)
    producer.init_transactions()
    # Five events and a marker, six times: records at 0-4, 6-10, and so on.
    for _ in range(6):
        producer.begin_transaction()
        for _ in range(5):
            producer.send(topics.events, b"{}", partition=0)
        producer.commit_transaction()
    producer.close()
    feed = Feed(broker, topics)
    await feed.start()
    store = SqliteStore(tmp_path, None, 7)
    ingester = Ingester(broker, topics, store)
    running = asyncio.create_task(ingester.run())
    acks = PendingAcks()
    # The runs have the records but 12-16 and the last two.
    for offsets in ([*range(5), *range(6, 11)], [*range(18, 23), *range(24, 29), *range(30, 33)]):
        (header,) = encode_run(
            [EventRecord(offset, b"u", START_MS) for offset in offsets],
            [EventFacts(offset, f"m{offset}", "web", "track", "Order") for offset in offsets],
        )
        spans = [OutcomeInterval("one", "", "filtered", offset, offset) for offset in offsets]
        value = Outcomes(Stage.ROUTER, topics.events, 0, "v1", spans).encode()
        feed.producer.append(topics.outcomes, 0, acks, key=None, value=value, headers=[(RUN_HEADER, header)])
    await acks.confirmed(120)
    await feed.producer.stop()
    await commit(broker, topics, 36)
    async with KafkaAuditor(broker, topics, ["one", "two"]) as kafka:
        report = await audit_with_kafka(SqliteReader(tmp_path, None), kafka, 0, patience=120)
    place = topics.events, 0
    assert report.findings == [Finding(Problem.LOST, *place, 12, 16), Finding(Problem.LOST, *place, 33, 34)]
    assert (report.events, report.balanced) == (23, False)
    await commit(broker, topics, 12)
    async with KafkaAuditor(broker, topics, ["one", "two"]) as kafka:
        report = await audit_with_kafka(SqliteReader(tmp_path, None), kafka, 0, patience=120)
    assert (report.events, report.balanced, report.gaps) == (10, True, {})
    ingester.stop()
    await running
    store.close()


async def test_the_audit_finds_lost_events_of_external_topics(broker: Broker, topics: Topics, tmp_path: Path):
    """The router's offset of a topic that a source reads moved forward by 10: exactly these events are named."""
    external = f"{topics.prefix}-orders"
    create_topics(broker, [Topic(external, 2, 3600)], replication=1, timeout=60)
    feed = Feed(broker, topics)
    await feed.start()
    store = SqliteStore(tmp_path, None, 7)
    ingester = Ingester(broker, topics, store)
    running = asyncio.create_task(ingester.run())
    acks = PendingAcks()
    for _ in range(40):
        feed.producer.append(external, 0, acks, key=b"u", value=b"{}")
    for offsets in (range(20), range(30, 40)):
        (header,) = encode_run(
            [EventRecord(offset, b"u", START_MS) for offset in offsets],
            [EventFacts(offset, f"m{offset}", "shop", "track", "Order") for offset in offsets],
        )
        spans = [OutcomeInterval("one", "", "filtered", offsets[0], offsets[-1])]
        value = Outcomes(Stage.ROUTER, external, 0, "v1", spans).encode()
        feed.producer.append(topics.outcomes, 0, acks, key=None, value=value, headers=[(RUN_HEADER, header)])
    await acks.confirmed(120)
    await feed.producer.stop()
    await commit(broker, topics, 40, external)
    async with KafkaAuditor(broker, topics, ["one"], [external, f"{topics.prefix}-missing"]) as kafka:
        report = await audit_with_kafka(SqliteReader(tmp_path, None), kafka, 0, patience=120)
    assert report.findings == [Finding(Problem.LOST, external, 0, 20, 29)]
    assert (report.events, report.problems.total()) == (30, 10)
    ingester.stop()
    await running
    store.close()


async def test_deliveries_behind_the_committed_offset_are_in_flight(broker: Broker, topics: Topics, tmp_path: Path):
    """Forwarded events whose deliveries wait in the forward or retry topic are in flight, not missing."""
    feed = Feed(broker, topics)
    await feed.start()
    store = SqliteStore(tmp_path, None, 7)
    ingester = Ingester(broker, topics, store)
    running = asyncio.create_task(ingester.run())
    acks = PendingAcks()
    offsets = range(10)
    for _ in offsets:
        feed.producer.append(topics.events, 0, acks, key=b"u", value=b"{}")
    (header,) = encode_run(
        [EventRecord(offset, b"u", START_MS) for offset in offsets],
        [EventFacts(offset, f"m{offset}", "web", "track", "Order") for offset in offsets],
    )
    value = Outcomes(Stage.ROUTER, topics.events, 0, "v1", [OutcomeInterval("one", "r", "forwarded", 0, 9)]).encode()
    feed.producer.append(topics.outcomes, 0, acks, key=None, value=value, headers=[(RUN_HEADER, header)])
    for offset in (7, 8, 9):
        origin = Origin(topics.events, 0, offset)
        topic = topics.retry("one") if offset == 7 else topics.forward("one")
        delivery = DeliveryRecord("m", "r", "v1", "track", "Order", "t", "t", "web", origin, {})
        feed.producer.append(topic, 0, acks, key=b"u", value=delivery.encode())
    await acks.confirmed(120)
    await feed.producer.stop()
    await commit(broker, topics, 10)
    async with KafkaAuditor(broker, topics, ["one", "two"]) as kafka:
        report = await audit_with_kafka(SqliteReader(tmp_path, None), kafka, 0, patience=120)
    assert report.findings == [Finding(Problem.NOT_FINISHED, topics.events, 0, 0, 6, "one", "r")]
    assert report.in_flight == 3
    ingester.stop()
    await running
    store.close()


async def test_a_topic_that_was_created_again_is_an_error(broker: Broker, topics: Topics, tmp_path: Path):
    """The stored offset is behind the topic's end: the message says how to rebuild the ledger."""
    store = SqliteStore(tmp_path, None, 7)
    store.write(LedgerBatch(offsets={(topics.outcomes, 0): 5}))
    with pytest.raises(StoreError, match=r"outcomes:0 ends at offset 0.*up to 5.*Delete the ledger's folder"):
        await Ingester(broker, topics, store).run()
    store.close()
