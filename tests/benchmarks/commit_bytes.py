"""Measure the bytes per second that a forwarder's commits write to `__consumer_offsets`, under load with poison.

    python -m tests.benchmarks.commit_bytes [INTEGRATIONS [EVENTS_PER_SECOND [SECONDS]]]

Each integration has 12 partitions that get events all the time. The vendor always refuses one event in 300, so offsets
above it are finished out of order and are stored in the commits' metadata. Measures the topic's log on real Kafka.

A process commits less often if it would write more than its budget. The estimate of a commit's size is compared with
the largest one, that of one partition in a request of its own. It fails if commits write 100 KB/s or more, or could.
"""

import asyncio
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web
from aiokafka import AIOKafkaConsumer, TopicPartition

from forwarders.vendors.webhook.forwarder import Webhook, WebhookSettings
from streams.delivery.flow.settings import DeliverySettings
from streams.kafka.acks import PendingAcks
from streams.kafka.admin import create_topics
from streams.kafka.commit_metadata import COMMIT_BYTES, COMMIT_BYTES_PER_SECOND
from streams.kafka.producer import Producer
from streams.kafka.settings import Broker
from streams.topics import Topics
from tests.benchmarks import measure
from tests.benchmarks.hung_vendor import VALUE
from tests.support import real_kafka
from tests.support.reading import until

TOPICS = Topics(prefix="bench", partitions=12)
LIMIT = 100.0
"""KB per second."""

POISON_EVERY = 300
WARM_UP_SECONDS = 20
TICK_SECONDS = 0.1
COMMITS = 50
LONG_NAME = "google_ads_conversions_of_europe"


class Vendor:
    """Accepts requests, except those with a poisoned event."""

    def __init__(self) -> None:
        self.taken: dict[str, int] = {}
        self.refused = 0

    async def handle(self, request: web.Request) -> web.Response:
        items = orjson.loads(await request.read())
        if any(item["revenue"] == 0.95 for item in items):
            self.refused += 1
            return web.Response(status=500)
        name = request.path[1:]
        self.taken[name] = self.taken.get(name, 0) + len(items)
        return web.Response()


async def deliver(bootstrap: str, port: str, *names: str) -> None:
    """Run the measured process: the deliveries, until it is killed."""
    from streams.delivery.sinks.factory import make_delivery
    from streams.worker.worker import Worker

    broker = Broker(bootstrap=bootstrap)
    producer = Producer(broker, client_id="forwarder")
    worker = Worker(producer)
    worker.pipelines = [
        make_delivery(
            name,
            Webhook(WebhookSettings(url=f"http://127.0.0.1:{port}/{name}", batch_size=20)),
            DeliverySettings(linger=0.05, backoff_min=0.5, backoff_max=5),
            TOPICS,
            broker,
            producer,
            fail=worker.fail,
            grace=5,
        )
        for name in names
    ]
    await worker.run()


async def feed(producer: Producer, names: list[str], per_second: int) -> None:
    """Write events to all partitions in turn, without end."""
    acks = PendingAcks()
    number = 0
    due = time.monotonic()
    while True:
        for _ in range(max(1, int(per_second * TICK_SECONDS))):
            at, name = divmod(number, len(names))
            part = at % TOPICS.partitions
            poisoned = not number % POISON_EVERY
            revenue = 0 if poisoned else 1 + number % 500
            value = VALUE % (number, part, number, at % 10_000, number, revenue)
            producer.append(TOPICS.forward(names[name]), part, acks, key=b"user-%d" % (at % 10_000), value=value)
            number += 1
        await producer.wait_for_room()
        due += TICK_SECONDS
        await asyncio.sleep(max(0.0, due - time.monotonic()))


def log_size(kafka: real_kafka.KafkaNode) -> int:
    """Return the bytes of the topic of commits."""
    return sum(file.stat().st_size for file in kafka.folder.glob("logs/__consumer_offsets-*/*.log"))


async def commit_size(kafka: real_kafka.KafkaNode, broker: Broker) -> float:
    """Return the bytes of a commit of one partition without metadata."""
    part = TopicPartition(TOPICS.retry(LONG_NAME), 0)
    consumer = AIOKafkaConsumer(**broker.client(), group_id=TOPICS.forwarder_group(LONG_NAME), enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign([part])
        await consumer.commit({part: 1})
        before = log_size(kafka)
        for offset in range(COMMITS):
            await consumer.commit({part: 2 + offset})
        return (log_size(kafka) - before) / COMMITS
    finally:
        await consumer.stop()


async def run(kafka: real_kafka.KafkaNode, integrations: int, per_second: int, seconds: int) -> dict[str, Any]:
    broker = Broker(bootstrap=kafka.bootstrap)
    names = [f"i{number}" for number in range(integrations)]
    await asyncio.to_thread(create_topics, broker, TOPICS.declared([*names, LONG_NAME]), 1, 300)
    vendor = Vendor()
    app = web.Application()
    app.router.add_post("/{name}", vendor.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    producer = Producer(broker, client_id="feed")
    await producer.start()
    feeding = asyncio.create_task(feed(producer, names, per_second))
    port = str(runner.addresses[0][1])
    child = measure.start("tests.benchmarks.commit_bytes", "--deliver", broker.bootstrap, port, *names)
    try:
        await until(lambda: len(vendor.taken) == integrations, 300)
        await asyncio.sleep(WARM_UP_SECONDS)
        levels = [log_size(kafka)]
        taken, began, cpu = sum(vendor.taken.values()), time.monotonic(), measure.cpu(child.pid)
        for _ in range(seconds // 10):
            await asyncio.sleep(10)
            levels.append(log_size(kafka))
        passed = time.monotonic() - began
        assert child.poll() is None, "the forwarder died"
        cpu = measure.cpu(child.pid) - cpu
        child.kill()
        child.wait()
        size = await commit_size(kafka, broker)
        return {
            "integrations": integrations,
            "partitions of each": TOPICS.partitions,
            "events per second, delivered": round((sum(vendor.taken.values()) - taken) / passed),
            "refused requests": vendor.refused,
            "CPU share of the forwarder": round(cpu / passed, 2),
            "bytes of a commit alone": round(size),
            "KB/s, most that the budget allows": round(COMMIT_BYTES_PER_SECOND * size / COMMIT_BYTES / 1000, 1),
            "KB/s, mean": round((levels[-1] - levels[0]) / passed / 1000, 1),
            "KB/s, highest of 10 s": round(max(after - before for before, after in pairwise(levels)) / 10_000, 1),
        }
    finally:
        child.kill()
        feeding.cancel()
        await producer.stop()
        await runner.cleanup()


def main(integrations: int = 25, per_second: int = 1000, seconds: int = 60) -> None:
    with tempfile.TemporaryDirectory() as folder, real_kafka.running(Path(folder) / "kafka") as kafka:
        figures = asyncio.run(run(kafka, integrations, per_second, seconds))
    print(orjson.dumps(figures, option=orjson.OPT_INDENT_2).decode())
    sys.exit(max(figures["KB/s, mean"], figures["KB/s, most that the budget allows"]) >= LIMIT)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--deliver"]:
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
        asyncio.run(deliver(*sys.argv[2:]))
    else:
        main(*map(int, sys.argv[1:]))
