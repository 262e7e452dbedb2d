"""Run the stage for faults: Turnout's processes on a real Kafka, numbered events, and a vendor."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from streams.kafka.acks import PendingAcks
from streams.kafka.producer import Producer
from streams.kafka.settings import Broker
from streams.records.event import event_headers
from streams.records.format import Headers
from streams.topics import Topics
from tests.faults import books, oracle
from tests.support.ports import free_port
from tests.support.reading import read
from tests.support.real_kafka import Kafka
from tests.support.receiver import Got, Receiver, receiving

ITEMS = 20
CONCURRENCY = 4
SETTINGS = """
prefix: {prefix}
broker: {{bootstrap: '{bootstrap}', session_timeout: 6, rebalance_timeout: 10}}
partitions: 4
replication: 1
grace: 8
collector: {{host: 127.0.0.1, port: {port}}}
default_source: web
"""
SOURCE = """
source: web
write_keys: ['${FAULTS_WRITE_KEY}']
"""
INTEGRATION = """
integration: {name}
forwarder: webhook
settings: {{url: '{url}', batch_size: {items}}}
delivery: {{concurrency: {concurrency}, timeout: {timeout}, linger: 0.02, backoff_min: 0.05, backoff_max: 1}}
rules:
  - {{name: skipped, when: 'event = "Skip"', drop: true}}
  - {{name: raises, when: 'event = "Raise"', map: {{'@path': $.properties.text}}}}
  - {{name: blown, when: 'event = "Blow"', map: {{a: $.properties.big, b: $.properties.big, c: $.properties.big}}}}
  - {{name: event, map: {{id: $.messageId, n: $.properties.n, user: $.userId, text: $.properties.text}}}}
"""
KEY = "write-key-of-the-faults"
TEXT = "ünï \u202e😀"


class Process:
    """One of Turnout's processes; `code` is the folder of its version's code."""

    def __init__(self, folder: Path, *arguments: str, code: Path | None = None) -> None:
        self.log = folder / f"{arguments[0]}-{time.monotonic_ns()}.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", "from deploy.cli.main import main; main()", *arguments, "--config", str(folder)],
                stdout=log,
                stderr=log,
                cwd=code,
                env={**os.environ, "FAULTS_WRITE_KEY": KEY},
            )

    async def ready(self, seconds: float = 90) -> "Process":
        """Wait until the process reports that it is ready."""
        async with asyncio.timeout(seconds):
            while '"event":"ready"' not in self.log.read_text():
                assert self.runs, self.log.read_text()
                await asyncio.sleep(0.05)
        return self

    def signal(self, number: int) -> None:
        """Send a signal without waiting."""
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def end(self, number: int, seconds: float = 20) -> int:
        """Send a signal and wait for the end; returns the exit code."""
        self.signal(number)
        async with asyncio.timeout(seconds):
            while self._process.poll() is None:
                await asyncio.sleep(0.02)
        return self._process.returncode

    @property
    def pid(self) -> int:
        """The process ID."""
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None


class Stage:
    """The processes, Kafka, events and vendor of a fault test."""

    def __init__(
        self, kafka: Kafka, folder: Path, receiver: Receiver, timeout: float, others: Mapping[str, Receiver]
    ) -> None:
        self.kafka, self.folder, self.vendor = kafka, folder, receiver
        self.broker = Broker(bootstrap=kafka.bootstrap, session_timeout=6, rebalance_timeout=10)
        self.topics = Topics(prefix=f"f{time.monotonic_ns()}", partitions=4)
        self.port = free_port()
        self.ports = [self.port]
        self.accepted: set[int] = set()
        self.received: list[int] = []
        self.received_at: list[float] = []
        self.bound = 0
        self.processes: list[Process] = []
        self._sent = 0
        vendors = {"hook": receiver, **others}
        self.integrations = list(vendors)
        for name, text in {
            "turnout.yaml": SETTINGS.format(prefix=self.topics.prefix, bootstrap=kafka.bootstrap, port=self.port),
            "sources/web.yaml": SOURCE,
            **{
                f"integrations/{name}.yaml": INTEGRATION.format(
                    name=name, url=vendor.url, items=ITEMS, concurrency=CONCURRENCY, timeout=timeout
                )
                for name, vendor in vendors.items()
            },
        }.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def start(self, *arguments: str, code: Path | None = None) -> Process:
        """Start one of Turnout's processes, with another version's code if a folder is given."""
        process = Process(self.folder, *arguments, code=code)
        self.processes.append(process)
        return process

    async def serving(self) -> None:
        """Wait until the collector is ready."""
        async with asyncio.timeout(180), aiohttp.ClientSession() as session:
            while True:
                with suppress(aiohttp.ClientError):
                    async with session.get(f"http://127.0.0.1:{self.port}/ready") as answer:
                        if answer.status == 200:
                            return
                await asyncio.sleep(0.05)

    def event(self, n: int, **fields: Any) -> dict[str, Any]:
        """Return the event with this number."""
        user = f"u{n % 17}"
        base = {
            "type": "track",
            "event": "Test",
            "userId": user,
            "messageId": f"m{n}",
            "timestamp": "2026-01-02T03:04:05Z",
        }
        return {**base, "properties": {"n": n, "text": TEXT}, **fields}

    def take(self, count: int = 1) -> list[int]:
        """Return the next numbers for the caller to send."""
        numbers = list(range(self._sent, self._sent + count))
        self._sent += count
        return numbers

    async def send(self, size: int, patience: float = 120, **fields: Any) -> list[int]:
        """Send `size` new events in one request, to each collector in turn until one responds with 200, like SDKs."""
        numbers = self.take(size)
        body = orjson.dumps({"batch": [self.event(n, **fields) for n in numbers]})
        headers = {"Authorization": aiohttp.encode_basic_auth(KEY, "")}
        timeout = aiohttp.ClientTimeout(total=15)
        async with asyncio.timeout(patience), aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
            for attempt in count(numbers[0]):
                port = self.ports[attempt % len(self.ports)]
                with suppress(aiohttp.ClientError, TimeoutError):
                    async with session.post(f"http://127.0.0.1:{port}/v1/batch", data=body) as answer:
                        if answer.status == 200:
                            assert (await answer.json()) == {"success": True}
                            self.accepted.update(numbers)
                            break
                        assert answer.status == 503, await answer.text()
                await asyncio.sleep(0.1)
        return numbers

    async def write(self, value: bytes | None, key: bytes | None = b"u", headers: Headers | None = None) -> None:
        """Write a record to the events topic, as another producer would."""
        producer = Producer(self.broker, client_id="faults")
        await producer.start()
        acks = PendingAcks()
        headers = event_headers("web") if headers is None else headers
        producer.append(self.topics.events, 1, acks, key=key, value=value, headers=headers)
        await acks.confirmed(10)
        await producer.stop()

    @asynccontextmanager
    async def load(self, batch: int = 50, pause: float = 0.02) -> AsyncIterator[None]:
        """Send events continuously while the block runs, and wait for all responses at its end."""
        going = True

        async def sender() -> None:
            while going:
                await self.send(batch)
                await asyncio.sleep(pause)

        senders = [asyncio.create_task(sender()) for _ in range(2)]
        try:
            yield
        finally:
            going = False
            await asyncio.gather(*senders)

    def receive(self, got: Got) -> None:
        """Record a request to the vendor, and compare it with the sent events."""
        for item in got.body:
            expected = self.event(item["n"])
            assert item == {"id": expected["messageId"], "n": item["n"], "user": expected["userId"], "text": TEXT}
            self.received.append(item["n"])
            self.received_at.append(time.monotonic())

    async def until(self, condition: Callable[[], Any], seconds: float = 180) -> None:
        """Wait for a condition."""
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.02)

    def allow_for_kill(self, commit_interval: float) -> None:
        """Raise the bound of duplicates by the work that a kill at this moment may repeat.

        This is the work finished since the last commit, estimated from the vendor's requests with half a second for the
        commit and for outcomes in flight, plus the deliveries in flight.
        """
        since = time.monotonic() - commit_interval - 0.5
        self.bound += sum(at >= since for at in self.received_at) + 2 * CONCURRENCY * ITEMS

    async def allow_for_rerouting(self, at: float) -> None:
        """Raise the bound of duplicates by the events that a router killed at `time.time()` seconds may route again.

        These are its records since its last commit, a second before, with half a second for the commit itself. The
        vendor's requests cannot be used, since the forwarder may lag behind.
        """
        records = await read(self.broker, self.topics.forward("hook"), self.topics.partitions)
        self.bound += sum((at - 1.5) * 1000 <= record.timestamp <= (at + 0.1) * 1000 for record in records)

    async def verdict(self) -> oracle.Findings:
        """Send a new event, wait until everything is settled, and judge. Fails the test with all findings."""
        (fresh,) = await self.send(1)
        await self.until(lambda: fresh in self.received, 180)
        async with asyncio.timeout(180):
            while (findings := await oracle.find(self.broker, self.topics)).unsettled(self.integrations):
                await asyncio.sleep(0.5)
        got = set(self.received)
        lost = oracle.lost(findings, self.accepted, got)
        assert not lost, f"{len(lost)} of {len(self.accepted)} accepted events are lost: {lost[:20]}"
        assert got <= set(range(self._sent)), "the vendor received what was never sent"
        twice = oracle.repeats(self.received)
        print(f"accepted {len(self.accepted)}, received {len(self.received)}, twice {twice}, allowed {self.bound}")
        assert twice <= self.bound
        await books.check(self.broker, self.topics, list(self.integrations), self.folder / "ledger", findings)
        return findings


@asynccontextmanager
async def staged(
    kafka: Kafka, folder: Path, timeout: float = 5, others: Mapping[str, Receiver] | None = None
) -> AsyncIterator[Stage]:
    """Run a stage with its topics and the collector; every process is killed at the end.

    `others` are integrations beside `hook`, by name, each with its vendor.
    """
    async with receiving() as receiver:
        stage = Stage(kafka, folder, receiver, timeout, others or {})
        receiver.note = stage.receive
        assert await stage.start("topics", "--create").end(0, 90) == 0, stage.processes[-1].log.read_text()
        stage.start("collector")
        try:
            await stage.serving()
            yield stage
        except BaseException:
            for process in stage.processes:
                print(f"--- {process.log.name}\n{process.log.read_text()[-3000:]}")
            raise
        finally:
            for process in stage.processes:
                process.signal(signal.SIGKILL)
            for process in stage.processes:
                await process.end(signal.SIGKILL)
