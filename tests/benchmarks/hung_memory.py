"""Measure the memory of a forwarder whose vendors all hang, with deliveries waiting for each integration.

    python -m tests.benchmarks.hung_memory [WAITING [INTEGRATIONS [SECONDS]]]

Prints the memory beside the bound of deploy/docs/delivery.md.
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import orjson

from forwarders.vendors.webhook.forwarder import Webhook, WebhookSettings
from streams.delivery.flow.settings import DeliverySettings
from streams.delivery.sinks.factory import PARTITION_FETCH_BYTES
from streams.kafka.acks import PendingAcks
from streams.kafka.admin import create_topics
from streams.kafka.offsets import RECORD_BYTES, MemoryBudget
from streams.kafka.producer import BATCH_BYTES, Producer
from streams.kafka.settings import Broker
from streams.topics import Topics
from tests.benchmarks import measure
from tests.benchmarks.hung_vendor import VALUE
from tests.support import real_kafka

TOPICS = Topics(prefix="bench", partitions=12)
FETCHED_BYTES = 256 * 1024 * 1024
MB = 1024 * 1024


async def fill(broker: Broker, names: list[str], count: int) -> None:
    """Forward this many orders, in turn to each integration."""
    producer = Producer(broker, client_id="fill")
    await producer.start()
    acks = PendingAcks()
    for number in range(count):
        at, name = divmod(number, len(names))
        part = at % TOPICS.partitions
        value = VALUE % (number, part, at // TOPICS.partitions, at % 10_000, number, number % 500)
        producer.append(TOPICS.forward(names[name]), part, acks, key=b"user-%d" % (at % 10_000), value=value)
        if not number % 1000:
            await producer.wait_for_room()
    await acks.confirmed(600)
    await producer.stop()


async def hang() -> None:
    """Accept requests and never respond."""

    async def take(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            pass

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def deliver(bootstrap: str, port: str, *names: str) -> None:
    """Run the measured process: the deliveries, until it is killed."""
    from streams.delivery.sinks.factory import make_delivery
    from streams.worker.worker import Worker

    broker = Broker(bootstrap=bootstrap)
    producer = Producer(broker, client_id="forwarder")
    worker = Worker(producer)
    memory = MemoryBudget(FETCHED_BYTES)
    worker.pipelines = [
        make_delivery(
            name,
            Webhook(WebhookSettings(url=f"http://127.0.0.1:{port}/hung", batch_size=100)),
            DeliverySettings(timeout=10),
            TOPICS,
            broker,
            producer,
            fail=worker.fail,
            grace=5,
            memory=memory,
        )
        for name in names
    ]
    await worker.run()


def main(waiting: int = 1_000_000, integrations: int = 25, seconds: int = 60) -> None:
    names = [f"i{number}" for number in range(integrations)]
    partitions = integrations * TOPICS.partitions
    with tempfile.TemporaryDirectory() as folder, real_kafka.running(Path(folder) / "kafka") as kafka:
        broker = Broker(bootstrap=kafka.bootstrap)
        create_topics(broker, TOPICS.declared(names), 1, 300)
        vendor = measure.start("tests.benchmarks.hung_memory", "--hang")
        assert vendor.stdout
        port = vendor.stdout.readline().strip()
        idle = measure.start("tests.benchmarks.hung_memory", "--deliver", broker.bootstrap, port, *names)
        levels = []
        for _ in range(seconds):
            time.sleep(1)
            levels.append(measure.memory(idle.pid))
        base = levels[-1]
        idle.kill()
        idle.wait()
        asyncio.run(fill(broker, names, waiting))
        child = measure.start("tests.benchmarks.hung_memory", "--deliver", broker.bootstrap, port, *names)
        levels = []
        for _ in range(2 * seconds):
            time.sleep(1)
            levels.append(measure.memory(child.pid))
        assert child.poll() is None, "the forwarder died"
        child.kill()
        vendor.kill()
    prefetched = partitions * (2 * PARTITION_FETCH_BYTES + BATCH_BYTES)
    batches = integrations * 500 * (2 * len(VALUE) + RECORD_BYTES)
    figures = {
        "deliveries waiting": waiting,
        "integrations": integrations,
        "partitions of forward topics": partitions,
        "memory without deliveries, MB": round(base),
        "memory at half time, MB": round(levels[len(levels) // 2]),
        "memory at the end, MB": round(levels[-1]),
        "memory at its peak, MB": round(max(levels)),
        "bound, MB": round(base + (FETCHED_BYTES + prefetched + batches) / MB),
    }
    print(orjson.dumps(figures, option=orjson.OPT_INDENT_2).decode())


if __name__ == "__main__":
    if sys.argv[1:2] in (["--deliver"], ["--hang"]):
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
        asyncio.run(hang() if sys.argv[1] == "--hang" else deliver(*sys.argv[2:]))
    else:
        main(*map(int, sys.argv[1:]))
