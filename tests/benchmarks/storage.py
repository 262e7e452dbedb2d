"""Measure storage: rows per CPU-second of the worker, from real Kafka to Parquet on local disk.

    python -m tests.benchmarks.storage [ROWS]

Orders as rows of the forwarder's preset, in objects of 10,000: fetched, kept on disk until their object ends, encoded
and written, with outcomes and commits. The worker has one core, Kafka the other. Then the writing of objects alone.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import forwarders
from forwarders.api.contract import Delivered, Delivery, OffsetRange
from forwarders.vendors.object_storage.forwarder import ObjectStorage, ObjectStorageSettings
from streams.delivery.flow.settings import DeliverySettings
from streams.events import key
from streams.kafka.acks import PendingAcks
from streams.kafka.admin import create_topics
from streams.kafka.producer import Producer
from streams.kafka.settings import Broker
from streams.records.delivery import DeliveryRecord
from streams.records.event import Origin
from streams.topics import Topics
from tests.benchmarks import measure
from tests.benchmarks.events import make_event
from tests.support import real_kafka
from transforms import read_rules
from transforms.documents import Document

PRESET = Path(forwarders.__file__).parent / "vendors" / "rows.yaml"
TOPICS = Topics(prefix="bench", partitions=3)
RECORDS = 10_000
AT_LEAST = 40_000
"""Rows per CPU-second that Parquet has to reach."""


async def fill(broker: Broker, integration: str, count: int) -> int:
    """Forward this many orders, as whole objects plus one record per partition; returns the size of a record."""
    producer = Producer(broker, client_id="fill")
    await producer.start()
    acks = PendingAcks()
    value = b""
    for number, (event, payload) in enumerate(orders(count + TOPICS.partitions)):
        value = DeliveryRecord(
            event["messageId"], "row", "v1", "track", event["event"], event["timestamp"], event["receivedAt"], "web",
            Origin(TOPICS.events, number % 3, number // 3), payload,
        ).encode()  # fmt: skip
        producer.append(TOPICS.forward(integration), number % 3, acks, key=key(event), value=value)
        if not number % 1000:
            await producer.wait_for_room()
    await acks.confirmed(300)
    await producer.stop()
    return len(value)


def orders(count: int) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield orders, each with its row."""
    rules, mistakes = read_rules(Document.read(PRESET))
    assert rules, mistakes
    for event in map(make_event, range(count)):
        ((_, payload),) = rules.apply(event)
        yield event, payload


async def store(bootstrap: str, integration: str, folder: str) -> None:
    """Run the measured process: one integration's delivery, until it is killed."""
    from streams.delivery.sinks.factory import make_delivery
    from streams.worker.worker import Worker

    broker = Broker(bootstrap=bootstrap, session_timeout=10, compression="none")
    producer = Producer(broker, client_id="forwarder")
    worker = Worker(producer)
    forwarder = ObjectStorage(
        ObjectStorageSettings.model_validate({"url": Path(folder).as_uri(), "format": integration, "records": RECORDS})
    )
    settings = DeliverySettings(spool=Path(folder) / "spool")
    worker.pipelines = [
        make_delivery(integration, forwarder, settings, TOPICS, broker, producer, fail=worker.fail, grace=10)
    ]
    await worker.run(ready=lambda: print("ready", flush=True))


def committed(broker: Broker, integration: str) -> int:
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(
        **broker.client(), group_id=f"{TOPICS.prefix}.forwarder.{integration}", enable_auto_commit=False
    )
    try:
        return sum(consumer.committed(TopicPartition(TOPICS.forward(integration), n)) or 0 for n in range(3))
    finally:
        consumer.close()


def whole_way(broker: Broker, integration: str, count: int, core: int, folder: Path) -> tuple[float, float]:
    """Return the worker's rows per CPU-second, and its peak memory in MB."""
    child = measure.start("tests.benchmarks.storage", "--store", broker.bootstrap, integration, str(folder), core=core)
    assert child.stdout
    child.stdout.readline()
    begun, peak = measure.cpu(child.pid), 0.0
    while committed(broker, integration) < count:
        peak = max(peak, measure.memory(child.pid))
        assert child.poll() is None, "the worker died"
        time.sleep(0.3)
    used = measure.cpu(child.pid) - begun
    child.terminate()
    child.wait()
    return count / used, peak


async def alone(folder: Path, kind: str, batch: list[Delivery]) -> float:
    """Return the rows per CPU-second of writing one object."""
    forwarder = ObjectStorage(ObjectStorageSettings.model_validate({"url": folder.as_uri(), "format": kind}))
    await forwarder.open()
    start = time.process_time()
    results = await forwarder.write(batch, OffsetRange("turnout.forward.lake", 0, 0, len(batch) - 1))
    used = time.process_time() - start
    assert results == [Delivered()] * len(batch)
    return len(batch) / used


def main(count: int) -> None:
    """Print the figures."""
    core, _ = measure.cores()
    batch = [Delivery(event["messageId"], row, "track", None, event["timestamp"]) for event, row in orders(RECORDS)]
    count -= count % (RECORDS * TOPICS.partitions)
    with tempfile.TemporaryDirectory() as folder, real_kafka.running(Path(folder) / "kafka") as kafka:
        broker = Broker(bootstrap=kafka.bootstrap)
        kinds = ("parquet", "ndjson.gz")
        create_topics(broker, TOPICS.declared(kinds), 1)
        for kind in kinds:
            size = asyncio.run(fill(broker, kind, count))
            rows, peak = whole_way(broker, kind, count, core, Path(folder) / kind)
            wanted = f" (at least {AT_LEAST:,} wanted)" if kind == "parquet" else ""
            print(
                f"{kind}: {count:,} deliveries of {size} bytes, {rows:,.0f} rows per CPU-second{wanted}, {peak:.0f} MB"
            )
            rows = median(asyncio.run(alone(Path(folder), kind, batch)) for _ in range(5))
            print(f"{kind}: writing alone {rows:,.0f} rows per CPU-second", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--store"]:
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
        asyncio.run(store(*sys.argv[2:5]))
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else 300_000)
