"""Measure the end-to-end cost of an event: CPU seconds of each process, bytes in Kafka and in the ledger.

    python -m tests.benchmarks.sizing [EVENTS]

CPU seconds depend little on other load. Events arrive in requests of 20; one webhook gets each event unchanged, 20 per
request.
"""

import asyncio
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

import aiohttp

from tests.benchmarks import measure
from tests.benchmarks.events import make_events
from tests.faults.harness import KEY, Stage, staged
from tests.support import real_kafka
from tests.support.ports import free_port
from tests.support.receiver import Got

BATCH = 20
CONNECTIONS = 4
DAY = 24 * 3600
RATES = (1_000, 10_000, 100_000)
REPLICATION = 3
HALF_LOAD = 0.5
"""The share of a core that a process should use: the rest is for peaks, and to catch up after an outage."""

INTEGRATION = """
integration: hook
forwarder: webhook
settings: {{url: '{url}', batch_size: 20}}
preset: webhook
"""


def make_batches(count: int) -> list[bytes]:
    """Return the bodies of requests."""
    texts = make_events(0, count)
    return [b'{"batch":[%b]}' % b",".join(texts[start : start + BATCH]) for start in range(0, count, BATCH)]


async def send(stage: Stage, batches: list[bytes]) -> int:
    """Send the batches; return how many were refused."""
    refused = 0
    headers = {"Authorization": aiohttp.encode_basic_auth(KEY, ""), "Content-Type": "application/json"}
    async with aiohttp.ClientSession(headers=headers) as session:

        async def connection() -> None:
            nonlocal refused
            while batches:
                async with session.post(f"http://127.0.0.1:{stage.port}/v1/batch", data=batches.pop()) as answer:
                    refused += answer.status != 200

        await asyncio.gather(*(connection() for _ in range(CONNECTIONS)))
    return refused


def bytes_by_topic(logs: Path, prefix: str) -> Counter[str]:
    """Return the bytes of records in each topic, without indexes."""
    found: Counter[str] = Counter()
    for segment in logs.glob(f"{prefix}.*/*.log"):
        found[segment.parent.name.rpartition("-")[0].removeprefix(f"{prefix}.")] += segment.stat().st_size
    return found


async def run(count: int) -> None:
    """Print the costs per event, and the resources for some rates."""
    with tempfile.TemporaryDirectory() as name, real_kafka.running(Path(name) / "kafka") as kafka:
        async with staged(kafka, Path(name) / "stage") as stage:
            received = 0

            def note(got: Got) -> None:
                nonlocal received
                received += len(got.body)

            stage.vendor.note = note
            (stage.folder / "integrations" / "hook.yaml").write_text(INTEGRATION.format(url=stage.vendor.url))
            settings = stage.folder / "turnout.yaml"
            port = free_port()
            settings.write_text(f"{settings.read_text()}ledger: {{folder: the-ledger, port: {port}}}\n")
            processes = {"collector": stage.processes[1]}
            for kind in ("router", "forwarder", "ledger"):
                processes[kind] = await stage.start(kind).ready(180)
            before = {kind: measure.cpu(process.pid) for kind, process in processes.items()}
            batches = make_batches(count)
            sent = sum(map(len, batches))
            assert not await send(stage, batches)
            await stage.until(lambda: received >= count, 600)
            while await stage.start("audit").end(0, 120):
                await asyncio.sleep(1)
            cpu = {kind: (measure.cpu(process.pid) - before[kind]) / count for kind, process in processes.items()}
            memory = {kind: measure.memory(process.pid) for kind, process in processes.items()}
            topics = bytes_by_topic(Path(name) / "kafka" / "logs", stage.topics.prefix)
            await processes["ledger"].end(signal.SIGTERM, 60)
            ledger = sum(file.stat().st_size for file in (stage.folder / "the-ledger").rglob("*") if file.is_file())
    report(count, sent, cpu, memory, topics, ledger)


def report(
    count: int, sent: int, cpu: dict[str, float], memory: dict[str, float], topics: Counter[str], ledger: int
) -> None:
    """Print the figures."""
    print(f"{count:,} events, {sent / count:.0f} bytes of JSON each")
    for kind, seconds in cpu.items():
        rate = 1 / seconds
        print(f"{kind}: {seconds * 1e6:.0f} µs of CPU per event, {rate:,.0f} events/s per core, {memory[kind]:.0f} MB")
    for topic, size in topics.most_common():
        print(f"{topic}: {size / count:.1f} bytes per event")
    print(f"ledger: {ledger / count:.1f} bytes per event")
    for rate in RATES:
        cores = ", ".join(f"{kind} {rate * seconds / HALF_LOAD:.1f}" for kind, seconds in cpu.items())
        kafka, kept = (size / count * rate * DAY / 1e9 for size in (topics.total() * REPLICATION, ledger))
        print(f"{rate:,} events/s: cores {cores}; GB per day: Kafka {kafka:,.0f}, ledger {kept:,.1f}")


if __name__ == "__main__":
    asyncio.run(run(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000))
