"""Measure how a slow vendor delays a fast one in the same process: seconds from record to the fast vendor.

    python -m tests.benchmarks.slow_vendor [PAIRS]

The fast vendor responds at once and gets 300 deliveries per second; the slow one takes 2 seconds per response, with 64
requests in flight and more waiting. Runs with and without the slow vendor alternate, each in its own process.
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles

import orjson

from forwarders.vendors.webhook.forwarder import Webhook, WebhookSettings
from streams.delivery.flow.settings import DeliverySettings
from streams.kafka.acks import PendingAcks
from streams.kafka.admin import create_topics
from streams.kafka.producer import Producer
from streams.kafka.settings import Broker
from streams.records.delivery import DeliveryRecord
from streams.records.event import Origin
from streams.topics import Topics
from tests.benchmarks import measure
from tests.benchmarks.vendors import Took, sell
from tests.support import real_kafka

TOPICS = Topics(prefix="bench", partitions=3)
RATE = 300
SECONDS = 15
SETTLING = 5
FLIGHT = 64
WAITING = 400_000
BATCH = 100


def send(producer: Producer, integration: str, number: int) -> None:
    """Forward one delivery that contains its send time."""
    value = DeliveryRecord(
        f"m{number}", "rule", "v1", "track", "Order Completed", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z", "web",
        Origin(TOPICS.events, number % 3, number // 3), {"sent": time.monotonic(), "text": "x" * 500},
    ).encode()  # fmt: skip
    key = b"user-%d" % (number % 1000)
    producer.append(TOPICS.forward(integration), number % 3, PendingAcks(), key=key, value=value)


async def deliver(bootstrap: str, port: str, *integrations: str) -> None:
    """Run the measured process: the delivery of these integrations, until it is ended."""
    from streams.delivery.sinks.factory import make_delivery
    from streams.worker.worker import Worker

    broker = Broker(bootstrap=bootstrap, session_timeout=10)
    producer = Producer(broker, client_id="forwarder")
    worker = Worker(producer)
    worker.pipelines = [
        make_delivery(
            name, Webhook(WebhookSettings(url=f"http://127.0.0.1:{port}/{name}", batch_size=BATCH)),
            DeliverySettings(concurrency=FLIGHT), TOPICS, broker, producer, fail=worker.fail, grace=5,
        )
        for name in integrations
    ]  # fmt: skip
    await worker.run()


async def measured(broker: Broker, producer: Producer, port: str, core: int, *names: str) -> float:
    """Return the 99th percentile of seconds from record to fast vendor, in a process with these integrations."""
    child = measure.start("tests.benchmarks.slow_vendor", "--deliver", broker.bootstrap, port, *names, core=core)
    took = Took(port)
    try:
        async with asyncio.timeout(60):
            while not took.seconds or took.waiting < FLIGHT * ("slow" in names):
                send(producer, "fast", 0)
                await asyncio.sleep(0.2)
                took.look()
        start = time.monotonic()
        for number in range(RATE * (SETTLING + SECONDS)):
            await asyncio.sleep(max(0.0, start + number / RATE - time.monotonic()))
            send(producer, "fast", number)
            if number == RATE * SETTLING:
                took.look()
                took.seconds.clear()
        async with asyncio.timeout(30):
            while len(took.seconds) < RATE * (SECONDS - 1):
                await asyncio.sleep(0.2)
                took.look()
        return quantiles(took.seconds, n=100)[98]
    finally:
        child.terminate()
        child.wait()


async def compare(broker: Broker, port: str, pairs: int) -> dict[str, float]:
    """Run all pairs, and print the comparison."""
    core, _ = measure.cores()
    producer = Producer(broker, client_id="send")
    await producer.start()
    for number in range(WAITING):
        send(producer, "slow", number)
        if not number % 1000:
            await producer.wait_for_room()
    alone, beside = [], []
    for _ in range(pairs):
        alone.append(await measured(broker, producer, port, core, "fast"))
        beside.append(await measured(broker, producer, port, core, "fast", "slow"))
        print(f"alone {alone[-1] * 1000:.0f} ms, beside the slow one {beside[-1] * 1000:.0f} ms", flush=True)
    await producer.stop()
    took = Took(port)
    took.look()
    return {
        "p99 alone, ms": round(median(alone) * 1000, 1),
        "p99 beside a slow vendor, ms": round(median(beside) * 1000, 1),
        "ratio, median of pairs": round(median(b / a for a, b in zip(alone, beside, strict=True)), 3),
        "requests in flight to the slow vendor, at most": took.most_waiting,
    }


def main(pairs: int) -> None:
    _, rest = measure.cores()
    with tempfile.TemporaryDirectory() as folder, real_kafka.running(Path(folder) / "kafka") as kafka:
        broker = Broker(bootstrap=kafka.bootstrap)
        create_topics(broker, TOPICS.declared(["fast", "slow"]), 1)
        vendors = measure.start("tests.benchmarks.slow_vendor", "--vendors", core=rest)
        assert vendors.stdout
        figures = asyncio.run(compare(broker, vendors.stdout.readline().strip(), pairs))
        vendors.kill()
    print(orjson.dumps(figures, option=orjson.OPT_INDENT_2).decode())


if __name__ == "__main__":
    if sys.argv[1:2] in (["--deliver"], ["--vendors"]):
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
        asyncio.run(sell() if sys.argv[1] == "--vendors" else deliver(*sys.argv[2:]))
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else 5)
