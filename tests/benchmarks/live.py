"""Measure the console's page Live: CPU and memory of the console at 1,000 events per second.

    python -m tests.benchmarks.live [SECONDS [EVENTS_PER_SECOND [TABS]]]

A real Kafka gets events and outcomes as the collector, the router and the forwarders write them: several integrations,
of which one filters, and a dead letter in a hundred. The console runs in a process of its own on one core; open pages
read their streams as browsers do. The first quarter of the time is not measured.
"""

import asyncio
import os
import shutil
import sys
import tempfile
import threading
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from statistics import mean

import orjson
import requests

from deploy.config.configuration import read_configuration
from deploy.console.access.roles import Role
from streams.kafka.acks import PendingAcks
from streams.kafka.admin import create_topics
from streams.kafka.producer import Producer
from streams.records.event import event_headers
from streams.records.outcomes import FORWARDED, Outcome, OutcomeInterval, Outcomes, Stage
from tests.benchmarks import measure
from tests.deploy.console.serving import serving_console
from tests.support import real_kafka

EXAMPLE = Path("deploy/example")
FLUSHES_PER_SECOND = 4
"""How often outcomes are recorded."""

EVENT = {
    "type": "track",
    "event": "Order Completed",
    "receivedAt": "2026-11-28T14:02:47.123Z",
    "properties": {
        "order_id": "A-1",
        "total": 149.9,
        "currency": "EUR",
        "products": [{"sku": "LMP-204", "price": 89.9}],
    },
    "context": {
        "ip": "84.17.40.9",
        "userAgent": "Mozilla/5.0 (iPhone; CPU iPhone OS 19_1 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148",
        "page": {"url": "https://nordlicht.example/checkout/thanks", "title": "Thanks"},
        "traits": {"email": "lena@nordlicht.example", "firstName": "Lena"},
    },
}


def make_folder(folder: Path, bootstrap: str) -> Path:
    """Copy the example, with a broker elsewhere."""
    shutil.copytree(EXAMPLE, folder)
    file = folder / "turnout.yaml"
    text = file.read_text().replace("embedded: true", "embedded: false").replace("127.0.0.1:9092", bootstrap)
    file.write_text(text)
    return folder


def serve(folder: str) -> None:
    """Run the measured process: the console, until its standard input ends."""
    with serving_console(read_configuration(Path(folder))) as console:
        (cookie,) = console.session(Role.VIEWER).cookies
        print(orjson.dumps([console.url, cookie.name, cookie.value]).decode(), flush=True)
        threading.Event().wait()


class Tab(threading.Thread):
    """An open page."""

    def __init__(self, url: str, cookie: dict[str, str]) -> None:
        super().__init__(daemon=True)
        self._url, self._cookie = url, cookie
        self.rows = 0
        self.per_second: list[int] = []

    def run(self) -> None:
        """Read the stream until the console ends."""
        with (
            suppress(requests.exceptions.ChunkedEncodingError),
            requests.get(f"{self._url}/live/stream.json", cookies=self._cookie, stream=True, timeout=600) as answer,
        ):
            for line in answer.iter_lines(chunk_size=4096):
                if line.startswith(b"data: "):
                    data = orjson.loads(line[6:])
                    self.rows += len(data["rows"])
                    self.per_second.append(data["per_second"])


class Traffic:
    """Writes events and their outcomes."""

    def __init__(self, producer: Producer, folder: Path) -> None:
        configuration = read_configuration(folder)
        self._producer, self._topics = producer, configuration.topics
        self._names = list(configuration.integrations)
        self._offsets: dict[int, int] = defaultdict(int)
        self._recorded: dict[int, int] = defaultdict(int)
        self._number = 0

    def send(self, number: int) -> None:
        """Send events."""
        for _ in range(number):
            self._number += 1
            partition = self._number % self._topics.partitions
            event = EVENT | {"messageId": f"m-{self._number}", "userId": f"u-{self._number % 5000}"}
            self._producer.append(
                self._topics.events, partition, PendingAcks(), key=b"u", value=orjson.dumps(event),
                headers=event_headers("web"),
            )  # fmt: skip
            self._offsets[partition] += 1

    def record(self) -> None:
        """Record the outcomes of the events so far."""
        for partition, end in self._offsets.items():
            first = self._recorded[partition]
            if first == end:
                continue
            self._recorded[partition] = end
            filtered, *others = self._names
            routed = [OutcomeInterval(name, "rule", FORWARDED, first, end - 1) for name in others]
            routed.append(OutcomeInterval(filtered, "", Outcome.FILTERED, first, end - 1))
            self._write(partition, Outcomes(Stage.ROUTER, self._topics.events, partition, "v", routed, []))
            for name in others:
                spans = [OutcomeInterval(name, "rule", Outcome.DELIVERED, first, end - 1)]
                if first % 100 > end % 100 and name == others[0]:
                    spans[-1:] = [OutcomeInterval(name, "rule", Outcome.DEAD, first, first)]
                    if end - 1 > first:
                        spans.append(OutcomeInterval(name, "rule", Outcome.DELIVERED, first + 1, end - 1))
                self._write(partition, Outcomes(Stage.FORWARDER, self._topics.events, partition, "v", spans, []))

    def _write(self, partition: int, outcomes: Outcomes) -> None:
        key = f"{self._topics.events}:{partition}".encode()
        self._producer.append(self._topics.outcomes, partition, PendingAcks(), key=key, value=outcomes.encode())


async def run(folder: Path, seconds: int, rate: int, tabs: int) -> dict[str, object]:
    """Measure one console."""
    core, rest = measure.cores()
    os.sched_setaffinity(0, {rest})
    child = measure.start("tests.benchmarks.live", "--serve", str(folder), core=core)
    assert child.stdout
    url, name, value = orjson.loads(child.stdout.readline())
    opened = [Tab(url, {name: value}) for _ in range(tabs)]
    broker = read_configuration(folder).settings.broker
    producer = Producer(broker, client_id="bench")
    await producer.start()
    traffic = Traffic(producer, folder)
    for tab in opened:
        tab.start()
    memory: list[float] = []
    begun, used, since = time.monotonic(), 0.0, 0.0
    try:
        for tick in range(seconds * FLUSHES_PER_SECOND):
            await asyncio.sleep(max(0.0, begun + tick / FLUSHES_PER_SECOND - time.monotonic()))
            traffic.send(rate // FLUSHES_PER_SECOND)
            traffic.record()
            if tick == seconds * FLUSHES_PER_SECOND // 4:
                used, since = measure.cpu(child.pid), time.monotonic()
            memory.append(measure.memory(child.pid))
        took, cpu = time.monotonic() - since, measure.cpu(child.pid) - used
    finally:
        child.kill()
        child.wait()
        await producer.stop()
    quarter = len(memory) // 4
    seen = [each for tab in opened for each in tab.per_second[len(tab.per_second) // 4 :]]
    return {
        "share of a core, %": round(100 * cpu / took, 1),
        "events per second, as pages say": round(mean(seen)) if seen else 0,
        "rows drawn per second and page": round(mean(tab.rows for tab in opened) / seconds, 1),
        "memory by quarter, MB": [round(mean(memory[each * quarter :][:quarter]), 1) for each in range(4)],
        "seconds": seconds,
        "pages": tabs,
    }


def main(seconds: int = 300, rate: int = 1000, tabs: int = 1) -> None:
    """Run the benchmark."""
    with tempfile.TemporaryDirectory() as work, real_kafka.running(Path(work) / "kafka") as kafka:
        folder = make_folder(Path(work) / "config", kafka.bootstrap)
        configuration = read_configuration(folder)
        create_topics(configuration.settings.broker, configuration.declared, 1)
        figures = asyncio.run(run(folder, seconds, rate, tabs))
    print(orjson.dumps(figures, option=orjson.OPT_INDENT_2).decode())


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2])
    else:
        main(*map(int, sys.argv[1:]))
