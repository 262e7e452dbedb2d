"""Measure how one hot user, with 2 % of deliveries and a rate limit of 10 per second, slows down the others.

    python -m tests.benchmarks.hot_user [DELIVERIES [PAIRS]]

Prints the seconds and CPU seconds from the first delivery until all deliveries of the other users have arrived, beside
a run without a hot user. Real Kafka. It fails if they take 10 % more CPU seconds, by the median of the pairs;
wall-clock seconds are only comparable on an idle machine.
"""

import asyncio
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import NamedTuple

import orjson
from aiohttp import web

from forwarders.api.contract import Rate
from forwarders.vendors.webhook.forwarder import Webhook, WebhookSettings
from streams.delivery.flow.settings import DeliverySettings
from streams.kafka.acks import PendingAcks
from streams.kafka.admin import create_topics
from streams.kafka.producer import Producer
from streams.kafka.settings import Broker
from streams.topics import Topics
from tests.benchmarks import measure
from tests.benchmarks.hung_vendor import VALUE
from tests.support import real_kafka
from tests.support.reading import until

TOPICS = Topics(prefix="bench", partitions=3)
HOT_EVERY = 50
LIMIT = 1.1


class Limited(Webhook):
    """A webhook that accepts 10 deliveries per second and user."""

    contract = replace(Webhook.contract, rates=(Rate(10, seconds=1, of="items", per="user"),))


class Took(NamedTuple):
    """The duration of the other users' deliveries."""

    seconds: float
    cpu: float


async def fill(broker: Broker, name: str, count: int, *, is_hot: bool) -> None:
    """Forward this many orders, of which every 50th is of one user if `is_hot`."""
    producer = Producer(broker, client_id="fill")
    await producer.start()
    acks = PendingAcks()
    for number in range(count):
        part = number % TOPICS.partitions
        user = 0 if is_hot and not number % HOT_EVERY else number
        value = VALUE % (number, part, number // TOPICS.partitions, user, number, number % HOT_EVERY)
        producer.append(TOPICS.forward(name), part, acks, key=b"user-%d" % user, value=value)
        if not number % 1000:
            await producer.wait_for_room()
    await acks.confirmed(600)
    await producer.stop()


async def deliver(bootstrap: str, port: str, name: str) -> None:
    """Run the measured process: one delivery, until it is killed."""
    from streams.delivery.sinks.factory import make_delivery
    from streams.worker.worker import Worker

    broker = Broker(bootstrap=bootstrap)
    producer = Producer(broker, client_id="forwarder")
    worker = Worker(producer)
    forwarder = Limited(WebhookSettings(url=f"http://127.0.0.1:{port}/", batch_size=20))
    worker.pipelines = [
        make_delivery(name, forwarder, DeliverySettings(), TOPICS, broker, producer, fail=worker.fail, grace=5)
    ]
    await worker.run()


async def measured(broker: Broker, name: str, others: int) -> Took:
    """Measure a new process that delivers everything waiting for an integration."""
    missing = others

    async def handle(request: web.Request) -> web.Response:
        nonlocal missing
        # The revenue of a hot user's orders is 0.95.
        missing -= sum(item["revenue"] != 0.95 for item in orjson.loads(await request.read()))
        return web.Response()

    app = web.Application()
    app.router.add_post("/", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    child = measure.start("tests.benchmarks.hot_user", "--deliver", broker.bootstrap, str(runner.addresses[0][1]), name)
    try:
        await until(lambda: missing < others, 300)
        began, cpu = time.monotonic(), measure.cpu(child.pid)
        await until(lambda: missing <= 0, 600)
        return Took(time.monotonic() - began, measure.cpu(child.pid) - cpu)
    finally:
        child.kill()
        await runner.cleanup()


async def compare(broker: Broker, count: int, pairs: int) -> dict[str, float]:
    others = count - len(range(0, count, HOT_EVERY))
    seconds, cpu = [], []
    for number in range(pairs):
        names = {False: f"even{number}", True: f"hot{number}"}
        await asyncio.to_thread(create_topics, broker, TOPICS.declared(list(names.values())), 1, 300)
        took = {}
        for is_hot, name in names.items():
            await fill(broker, name, count, is_hot=is_hot)
            took[is_hot] = await measured(broker, name, others)
        even, hot = took[False], took[True]
        print(
            f"even {even.seconds:.1f} s, {even.cpu:.1f} CPU s; hot {hot.seconds:.1f} s, {hot.cpu:.1f} CPU s", flush=True
        )
        seconds.append(hot.seconds / even.seconds)
        cpu.append(hot.cpu / even.cpu)
    return {
        "deliveries of others": others,
        "pairs": pairs,
        "seconds with a hot user, ratio": round(median(seconds), 3),
        "CPU seconds with a hot user, ratio": round(median(cpu), 3),
    }


def main(count: int = 50_000, pairs: int = 3) -> None:
    with tempfile.TemporaryDirectory() as folder, real_kafka.running(Path(folder) / "kafka") as kafka:
        figures = asyncio.run(compare(Broker(bootstrap=kafka.bootstrap), count, pairs))
    print(orjson.dumps(figures, option=orjson.OPT_INDENT_2).decode())
    sys.exit(figures["CPU seconds with a hot user, ratio"] >= LIMIT)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--deliver"]:
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
        asyncio.run(deliver(*sys.argv[2:]))
    else:
        main(*map(int, sys.argv[1:]))
