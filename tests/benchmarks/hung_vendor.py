"""Measure the memory of a worker whose vendor accepts requests and never responds, with deliveries waiting.

python -m tests.benchmarks.hung_vendor [WAITING]
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import orjson

from forwarders.vendors.webhook.forwarder import Webhook, WebhookSettings
from streams.delivery.flow.settings import DeliverySettings
from streams.kafka.acks import PendingAcks
from streams.kafka.admin import create_topics
from streams.kafka.producer import Producer
from streams.kafka.settings import Broker
from streams.topics import Topics
from tests.benchmarks import measure
from tests.benchmarks.vendors import Took, sell
from tests.support import real_kafka

TOPICS = Topics(prefix="bench", partitions=3)
SECONDS = 60
VALUE = (
    b'{"v":1,"id":"ajs-next-1767323045678-%032x","rule":"purchase","rules":"v1","type":"track",'
    b'"event":"Order Completed","time":"2026-01-02T03:04:05.678Z","received":"2026-01-02T03:04:06.100Z",'
    b'"source":"web","from":["bench.events",%d,%d],'
    b'"payload":{"event_type":"Order Completed","user_id":"user-%d","insert_id":"%032x","revenue":%d.95}}'
)


async def fill(broker: Broker, count: int) -> None:
    """Forward this many orders."""
    producer = Producer(broker, client_id="fill")
    await producer.start()
    acks, topic = PendingAcks(), TOPICS.forward("hung")
    for number in range(count):
        value = VALUE % (number, number % 3, number // 3, number % 10_000, number, number % 500)
        producer.append(topic, number % 3, acks, key=b"user-%d" % (number % 10_000), value=value)
        if not number % 1000:
            await producer.wait_for_room()
    await acks.confirmed(600)
    await producer.stop()


async def deliver(bootstrap: str, port: str) -> None:
    """Run the measured process: the delivery, until it is killed."""
    from streams.delivery.sinks.factory import make_delivery
    from streams.worker.worker import Worker

    broker = Broker(bootstrap=bootstrap)
    producer = Producer(broker, client_id="forwarder")
    worker = Worker(producer)
    forwarder = Webhook(WebhookSettings(url=f"http://127.0.0.1:{port}/hung", batch_size=100))
    settings = DeliverySettings(timeout=10)
    worker.pipelines = [make_delivery("hung", forwarder, settings, TOPICS, broker, producer, fail=worker.fail, grace=5)]
    await worker.run()


def main(waiting: int) -> None:
    core, rest = measure.cores()
    with tempfile.TemporaryDirectory() as folder, real_kafka.running(Path(folder) / "kafka") as kafka:
        broker = Broker(bootstrap=kafka.bootstrap)
        create_topics(broker, TOPICS.declared(["hung"]), 1)
        vendor = measure.start("tests.benchmarks.hung_vendor", "--vendor", core=rest)
        assert vendor.stdout
        port = vendor.stdout.readline().strip()
        asyncio.run(fill(broker, waiting))
        child = measure.start("tests.benchmarks.hung_vendor", "--deliver", broker.bootstrap, port, core=core)
        took, before, levels = Took(port), 0.0, []
        while not took.waiting:
            before = measure.memory(child.pid)
            time.sleep(0.1)
            took.look()
        for _ in range(SECONDS):
            time.sleep(1)
            levels.append(measure.memory(child.pid))
        assert child.poll() is None, "the worker died"
        child.kill()
        vendor.kill()
    figures = {
        "deliveries waiting": waiting,
        "memory before the first request, MB": round(before),
        "memory after 10 seconds, MB": round(levels[9]),
        f"memory after {SECONDS} seconds, MB": round(levels[-1]),
        "memory at its peak, MB": round(max(levels)),
    }
    print(orjson.dumps(figures, option=orjson.OPT_INDENT_2).decode())


if __name__ == "__main__":
    if sys.argv[1:2] in (["--deliver"], ["--vendor"]):
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
        asyncio.run(sell() if sys.argv[1] == "--vendor" else deliver(*sys.argv[2:]))
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else 5_000_000)
