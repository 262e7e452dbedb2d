"""Measure how long a router takes to fill the dedupe windows of many newly assigned partitions.

    python -m tests.benchmarks.read_back [PARTITIONS [EVENTS_PER_PARTITION]]

All partitions at once, as after an assignment, and one after the other for comparison (a tenth of them, times ten). On
a real Kafka. It fails if they take 10 seconds or more.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import orjson

from streams.kafka.acks import PendingAcks
from streams.kafka.admin import create_topics
from streams.kafka.offsets import TP
from streams.kafka.producer import Producer
from streams.kafka.settings import Broker
from streams.records.event import event_headers
from streams.routing.dedupe import Windows
from streams.topics import Topics
from tests.support import real_kafka

LIMIT = 10.0
"""Seconds that 300 partitions may take."""

WINDOW = 20_000


async def fill(broker: Broker, topics: Topics, events: int) -> None:
    """Write this many events into each partition."""
    producer = Producer(broker, client_id="fill")
    await producer.start()
    acks = PendingAcks()
    for number in range(events):
        for part in range(topics.partitions):
            event = {
                "type": "track",
                "event": "Order Completed",
                "userId": f"u{number % 1000}",
                "messageId": f"ajs-next-{part}-{number:032x}",
                "timestamp": "2026-01-02T03:04:05.678Z",
                "properties": {"revenue": number, "currency": "EUR", "products": [{"id": "p1", "quantity": 2}]},
            }
            value = orjson.dumps(event)
            producer.append(topics.events, part, acks, key=b"u", value=value, headers=event_headers("web"))
        await producer.wait_for_room()
    await acks.confirmed(600)
    await producer.stop()


async def measure(broker: Broker, topics: Topics, events: int) -> dict[str, float]:
    await fill(broker, topics, events)
    assigned: Mapping[TP, int] = {(topics.events, part): events for part in range(topics.partitions)}
    windows = Windows(broker, WINDOW, "bench", topics, lambda: assigned)
    began, cpu = time.perf_counter(), time.process_time()
    await windows.of((topics.events, 0), events)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    last = await windows.of((topics.events, topics.partitions - 1), events)
    assert last.repeats("web", f"ajs-next-{topics.partitions - 1}-{events - 1:032x}", events)
    alone = Windows(broker, WINDOW, "bench", topics)
    began = time.perf_counter()
    for part in range(topics.partitions // 10):
        await alone.of((topics.events, part), events)
    return {
        "partitions": topics.partitions,
        "events per partition": events,
        "seconds, all at once": round(seconds, 2),
        "CPU seconds, all at once": round(cpu, 2),
        "seconds, one after the other": round((time.perf_counter() - began) * 10, 2),
    }


def main(partitions: int = 300, events: int = 100) -> None:
    topics = Topics(prefix="bench", partitions=partitions)
    with tempfile.TemporaryDirectory() as folder, real_kafka.running(Path(folder) / "kafka") as kafka:
        broker = Broker(bootstrap=kafka.bootstrap)
        declared = topics.declared([])
        create_topics(broker, [each for each in declared if each.name in (topics.events, topics.rejected)], 1)
        figures = asyncio.run(measure(broker, topics, events))
    print(orjson.dumps(figures, option=orjson.OPT_INDENT_2).decode())
    sys.exit(figures["seconds, all at once"] >= LIMIT)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
