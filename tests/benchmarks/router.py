"""Measure the router: events per CPU-second on real Kafka, beside the same work without Kafka.

    python -m tests.benchmarks.router [EVENTS]

Three integrations, validation, dedupe and outcomes included, all confirmed. The router has one core; Kafka the other.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import orjson

from forwarders import registry
from streams import events
from streams.kafka.acks import PendingAcks
from streams.kafka.admin import create_topics
from streams.kafka.producer import Producer
from streams.kafka.settings import Broker
from streams.records.delivery import DeliveryRecord
from streams.records.event import Origin, event_headers
from streams.routing.ruleset import CurrentRules, Route, RuleSet
from streams.routing.settings import RouterSettings
from streams.sources.source import Source, Sources
from streams.topics import Topics
from tests.benchmarks import measure
from tests.benchmarks.events import make_events
from tests.support import real_kafka
from transforms import Rules, read_rules
from transforms.documents import Document

RULES = sorted((Path(__file__).parent / "rules").glob("*.yaml"))
TOPICS = Topics(prefix="bench", partitions=3)


def rule_set(presets: int = 0) -> RuleSet:
    """Return the benchmark's three integrations, or that many with presets, each vendor's in turn."""
    found = dict(list(preset_rules(presets)) if presets else ((path.stem, own_rules(path)) for path in RULES))
    routes = [
        Route(name, TOPICS.forward(name), rules.apply, not rules.match_all, rules=rules)
        for name, rules in found.items()
    ]
    return RuleSet("bench", Sources([Source.of("web", ["key"])]), routes)


def own_rules(path: Path) -> Rules:
    rules, mistakes = read_rules(Document.read(path))
    assert rules, mistakes
    return rules


def preset_rules(count: int) -> Iterator[tuple[str, Rules]]:
    """Yield integration names with the rules of a vendor's preset."""
    names = [name for name in registry.names() if registry.find(name).preset() is not None]
    for number in range(count):
        name = names[number % len(names)]
        preset = Document.read(Path(str(registry.find(name).preset())))
        rules, mistakes = read_rules(Document.parse(f"integration: {name}", name), preset=preset)
        assert rules, mistakes
        yield f"{name}-{number}", rules


async def fill(broker: Broker, count: int, names: int = 1) -> None:
    """Write events to the events topic, with a number of names."""
    producer = Producer(broker, client_id="fill")
    await producer.start()
    acks = PendingAcks()
    for number, value in enumerate(make_events(0, count, names)):
        key = b"user-%d" % (number % 10_000)
        producer.append(TOPICS.events, number % 3, acks, key=key, value=value, headers=event_headers("web"))
        if not number % 1000:
            await producer.wait_for_room()
    await acks.confirmed(300)
    await producer.stop()


async def route(bootstrap: str) -> None:
    """Run the measured process: the router, until it is killed."""
    from streams.routing.router import make_router
    from streams.suppression.filter import SuppressedUsers
    from streams.worker.worker import Worker

    broker = Broker(bootstrap=bootstrap, session_timeout=10)
    producer = Producer(broker, client_id="router")
    worker = Worker(producer)
    holder = CurrentRules(rule_set())
    router = make_router(
        holder, TOPICS, broker, producer, RouterSettings(), SuppressedUsers(), fail=worker.fail, grace=10
    )
    worker.pipelines = [router]
    print("started", flush=True)
    await worker.run()


def forwarded(broker: Broker) -> int:
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(**broker.client())
    parts = [TopicPartition(TOPICS.forward(path.stem), number) for path in RULES for number in range(3)]
    ends = consumer.end_offsets(parts)
    consumer.close()
    return sum(ends.values())


def without_kafka(count: int) -> float:
    """Return the events per CPU-second of decode, validate, map and encode in one loop."""
    rules = rule_set()
    values = make_events(0, count)
    start = time.process_time()
    for number, value in enumerate(values):
        event = events.parse(value, Origin(TOPICS.events, 0, number))
        message_id = event["messageId"]
        for one in rules.routes:
            for rule, payload in one.apply(event):
                DeliveryRecord(
                    message_id, rule, rules.version, event["type"], event.get("event"), event["timestamp"],
                    event["receivedAt"], "web", Origin(TOPICS.events, 0, number), payload,
                ).encode()  # fmt: skip
    return count / (time.process_time() - start)


def alone(core: int) -> float:
    """Run `without_kafka` in a separate process, on the router's core."""
    child = measure.start("tests.benchmarks.router", "--alone", core=core)
    return float(child.communicate()[0])


def main(count: int) -> None:
    core, _ = measure.cores()
    with tempfile.TemporaryDirectory() as folder, real_kafka.running(Path(folder) / "kafka") as kafka:
        broker = Broker(bootstrap=kafka.bootstrap)
        create_topics(broker, TOPICS.declared([path.stem for path in RULES]), 1)
        asyncio.run(fill(broker, count))
        print(f"{count:,} events of {len(make_events(0, 1)[0])} bytes, {len(RULES)} integrations", flush=True)
        before = alone(core)
        child = measure.start("tests.benchmarks.router", "--route", kafka.bootstrap, core=core)
        assert child.stdout
        child.stdout.readline()
        begun, started, peak = measure.cpu(child.pid), time.monotonic(), 0.0
        while forwarded(broker) < count * len(RULES):
            peak = max(peak, measure.memory(child.pid))
            assert child.poll() is None, "the router died"
            time.sleep(0.2)
        used, took = measure.cpu(child.pid) - begun, time.monotonic() - started
        child.terminate()
        child.wait()
        without = (before + alone(core)) / 2
    found = {
        "router, events per CPU-second": round(count / used),
        "router, events per second": round(count / took),
        "the same work without Kafka, before and after, events per CPU-second": round(without),
        "ratio": round(count / used / without, 2),
        "memory at its peak, MB": round(peak),
    }
    print(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())


if __name__ == "__main__":
    if sys.argv[1:2] == ["--route"]:
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
        asyncio.run(route(sys.argv[2]))
    elif sys.argv[1:2] == ["--alone"]:
        print(without_kafka(60_000))
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else 300_000)
