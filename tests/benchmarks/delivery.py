"""Measure delivery: deliveries per CPU-second of the worker on real Kafka, to a fast local vendor.

    python -m tests.benchmarks.delivery [DELIVERIES]

In batches of 100, then one per request; payload check, outcomes and commits included. The worker has one core, Kafka
and the vendor the other.
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import orjson

from forwarders.vendors.webhook.forwarder import Webhook, WebhookSettings
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
from tests.benchmarks.events import make_events
from tests.benchmarks.vendors import sell
from tests.support import real_kafka
from transforms import read_rules
from transforms.documents import Document

RULES = Path(__file__).parent / "rules" / "amplitude.yaml"
TOPICS = Topics(prefix="bench", partitions=3)
BATCH = 100


async def fill(broker: Broker, integration: str, count: int) -> int:
    """Forward this many mapped orders; returns the size of one record."""
    rules, mistakes = read_rules(Document.read(RULES))
    assert rules, mistakes
    producer = Producer(broker, client_id="fill")
    await producer.start()
    acks = PendingAcks()
    value = b""
    for number, event in enumerate(map(orjson.loads, make_events(0, count))):
        ((rule, payload),) = rules.apply(event)
        value = DeliveryRecord(
            event["messageId"], rule, "v1", "track", event["event"], event["timestamp"], event["receivedAt"], "web",
            Origin(TOPICS.events, number % 3, number // 3), payload,
        ).encode()  # fmt: skip
        producer.append(TOPICS.forward(integration), number % 3, acks, key=key(event), value=value)
        if not number % 1000:
            await producer.wait_for_room()
    await acks.confirmed(300)
    await producer.stop()
    return len(value)


async def deliver(bootstrap: str, integration: str, port: str) -> None:
    """Run the measured process: one integration's delivery, until it is killed."""
    from streams.delivery.sinks.factory import make_delivery
    from streams.worker.worker import Worker

    broker = Broker(bootstrap=bootstrap, session_timeout=10, compression="none")
    producer = Producer(broker, client_id="forwarder")
    worker = Worker(producer)
    forwarder = Webhook(
        WebhookSettings(url=f"http://127.0.0.1:{port}/", batch_size=BATCH if integration == "batches" else 1)
    )
    worker.pipelines = [
        make_delivery(integration, forwarder, DeliverySettings(), TOPICS, broker, producer, fail=worker.fail, grace=10)
    ]
    print("started", flush=True)
    await worker.run()


def committed(broker: Broker, integration: str) -> int:
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(
        **broker.client(), group_id=f"{TOPICS.prefix}.forwarder.{integration}", enable_auto_commit=False
    )
    try:
        return sum(consumer.committed(TopicPartition(TOPICS.forward(integration), n)) or 0 for n in range(3))
    finally:
        consumer.close()


def measured(broker: Broker, integration: str, count: int, core: int, port: str) -> dict[str, int]:
    child = measure.start("tests.benchmarks.delivery", "--deliver", broker.bootstrap, integration, port, core=core)
    assert child.stdout
    child.stdout.readline()
    begun, started = measure.cpu(child.pid), time.monotonic()
    peak = 0.0
    while (done := committed(broker, integration)) < count:
        if not done:
            started = time.monotonic()
        peak = max(peak, measure.memory(child.pid))
        assert child.poll() is None, "the worker died"
        time.sleep(0.3)
    used, took = measure.cpu(child.pid) - begun, time.monotonic() - started
    child.terminate()
    child.wait()
    return {
        f"{integration}, deliveries per CPU-second": round(count / used),
        f"{integration}, deliveries per second": round(count / took),
        f"{integration}, memory at its peak, MB": round(peak),
    }


def main(count: int) -> None:
    core, rest = measure.cores()
    figures: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder, real_kafka.running(Path(folder) / "kafka") as kafka:
        broker = Broker(bootstrap=kafka.bootstrap)
        counts = {"batches": count, "singles": count // 5}
        create_topics(broker, TOPICS.declared(counts), 1)
        vendor = measure.start("tests.benchmarks.delivery", "--vendor", core=rest)
        assert vendor.stdout
        port = vendor.stdout.readline().strip()
        for integration, deliveries in counts.items():
            size = asyncio.run(fill(broker, integration, deliveries))
            print(f"{integration}: {deliveries:,} deliveries of {size} bytes", flush=True)
            figures |= measured(broker, integration, deliveries, core, port)
        vendor.kill()
    print(orjson.dumps(figures, option=orjson.OPT_INDENT_2).decode())


if __name__ == "__main__":
    if sys.argv[1:2] in (["--deliver"], ["--vendor"]):
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
        asyncio.run(sell() if sys.argv[1] == "--vendor" else deliver(*sys.argv[2:5]))
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else 200_000)
