"""Measure end to end: the time from the collector's 200 to the request at the vendor, and flat memory.

    python -m tests.benchmarks.way latency [SECONDS]
    python -m tests.benchmarks.way memory [EVENTS]

`latency` finds the throughput of collector, router, forwarder, Kafka and client together on this machine, then measures
at half of it. `memory` shows router and forwarder while EVENTS pass, and while as many wait for a hanging vendor.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import quantiles

import aiohttp
import orjson
from aiohttp import web

from streams.kafka.acks import PendingAcks
from streams.kafka.producer import Producer
from streams.records.event import event_headers
from tests.benchmarks import measure
from tests.faults.harness import KEY, Process, Stage, staged
from tests.support import real_kafka
from tests.support.receiver import Got

BATCH = 20
CONNECTIONS = 8


@asynccontextmanager
async def running() -> AsyncIterator[tuple[Stage, Process, Process]]:
    """A stage on a real Kafka with one router and one forwarder."""
    with tempfile.TemporaryDirectory() as folder, real_kafka.running(Path(folder) / "kafka") as kafka:
        async with staged(kafka, Path(folder) / "stage") as stage:
            router, forwarder = stage.start("router"), stage.start("forwarder")
            await router.ready()
            await forwarder.ready()
            stage.vendor.note = lambda _: None
            yield stage, router, forwarder


async def latency(seconds: float) -> None:
    """Print the total throughput, and the time from 200 to the vendor at half of it."""
    async with running() as (stage, _, _):
        arrived: dict[int, float] = {}
        answered: dict[int, float] = {}

        def note(got: Got) -> None:
            now = time.monotonic()
            for item in got.body:
                arrived[item["n"]] = now

        stage.vendor.note = note
        headers = {"Authorization": aiohttp.encode_basic_auth(KEY, "")}
        async with aiohttp.ClientSession(headers=headers) as session:

            async def send(until: float, pause: float) -> None:
                due = time.monotonic()
                while (now := time.monotonic()) < until:
                    await asyncio.sleep(max(0.0, due - now))
                    due += pause
                    numbers = stage.take(BATCH)
                    body = orjson.dumps({"batch": [stage.event(n) for n in numbers]})
                    async with session.post(f"http://127.0.0.1:{stage.port}/v1/batch", data=body) as answer:
                        assert answer.status == 200
                        answered.update(dict.fromkeys(numbers, time.monotonic()))

            async def load(pause: float) -> float:
                answered.clear()
                started = time.monotonic()
                await asyncio.gather(*(send(started + seconds, pause) for _ in range(CONNECTIONS)))
                await stage.until(lambda: answered.keys() <= arrived.keys(), 120)
                return len(answered) / (max(arrived[n] for n in answered) - started)

            await load(0.05)
            most = await load(0.0)
            half = await load(BATCH * CONNECTIONS / (most / 2))
        took = sorted(max(0.0, arrived[n] - at) * 1000 for n, at in answered.items())
        cuts = quantiles(took, n=100)
        report(
            {
                "all together, events per second": round(most),
                "load for the latency, events per second": round(half),
                "200 to vendor, p50 ms": round(cuts[49], 1),
                "200 to vendor, p99 ms": round(cuts[98], 1),
                "200 to vendor, most ms": round(took[-1], 1),
            }
        )


async def memory(count: int) -> None:
    """Print the memory of router and forwarder as events pass, and as they wait for a vendor that hangs."""
    async with running() as (stage, router, forwarder):
        received = 0
        hang = asyncio.Event()

        def note(got: Got) -> None:
            nonlocal received
            received += len(got.body)

        async def answer(_: Got) -> web.StreamResponse:
            if hang.is_set():
                await asyncio.sleep(3600)
            return web.json_response({})

        stage.vendor.note, stage.vendor.answer = note, answer

        def now(what: str) -> dict[str, object]:
            stage.vendor.got.clear()
            return {
                what: {"router": round(measure.memory(router.pid)), "forwarder": round(measure.memory(forwarder.pid))}
            }

        found: dict[str, object] = {}
        for part in range(1, 11):
            await fill(stage, count // 10)
            await stage.until(lambda part=part: received >= part * (count // 10), 600)
            found |= now(f"MB after {part * count // 10:,} events")
        hang.set()
        for part in range(1, 6):
            await fill(stage, count // 5)
            await asyncio.sleep(5)
            found |= now(f"MB with {part * count // 5:,} waiting for a vendor that hangs")
        report(found)


async def fill(stage: Stage, count: int) -> None:
    producer = Producer(stage.broker, client_id="fill")
    await producer.start()
    acks = PendingAcks()
    for n in stage.take(count):
        event = orjson.dumps({**stage.event(n), "context": {"padding": "x" * 900}})
        producer.append(stage.topics.events, n % 4, acks, key=b"u", value=event, headers=event_headers("web"))
        if not n % 500:
            await producer.wait_for_room()
            await asyncio.sleep(0)
    await acks.confirmed(300)
    await producer.stop()


def report(found: dict[str, object]) -> None:
    print(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode(), flush=True)


if __name__ == "__main__":
    what, amount = (sys.argv[1:2] or ["latency"])[0], float((sys.argv[2:3] or ["0"])[0])
    asyncio.run(memory(int(amount or 1_000_000)) if what == "memory" else latency(amount or 15))
