"""The collector's speed: events per CPU-second on real Kafka, its latency at half that load, and Redpanda Connect's.

    python -m tests.benchmarks.collector [SECONDS]

Every event is validated, and answered once Kafka has confirmed it. The collector is held to one core; this client
and Kafka run where there is room. Connect, which checks nothing, takes turns with it on the same core. What a tracking
plan costs (tests/benchmarks/plans.py) is not in it, since the router holds events against plans.
"""

import asyncio
import base64
import subprocess
import sys
import tempfile
import time
from collections import deque
from itertools import cycle
from pathlib import Path
from statistics import median, quantiles

from streams.kafka.admin import create_topics
from streams.kafka.settings import Broker
from streams.topics import Topics
from tests.benchmarks import connect, measure
from tests.benchmarks.events import make_events
from tests.support import real_kafka

TOPICS = Topics(prefix="bench")
KEY = "bench-key"
TURNS = 5


async def collect(bootstrap: str) -> None:
    """What the measured process runs: the collector, until it is told to stop."""
    from streams.collector.server import Collector
    from streams.collector.settings import CollectorSettings
    from streams.kafka.producer import Producer
    from streams.sources.source import Source, Sources

    sources = Sources([Source.of("web", [KEY])])
    producer = Producer(Broker(bootstrap=bootstrap), client_id="bench")
    collector = Collector(CollectorSettings(host="127.0.0.1", port=0), lambda: sources, TOPICS, producer)
    sys.exit(await collector.serve(lambda: print(collector.address[1], flush=True)))


class Load:
    """Requests on a number of connections: one after another, or at a rate; counts and times their answers."""

    def __init__(self, requests: list[bytes]) -> None:
        self.answered = 0
        self.seconds: list[float] = []
        self._requests = cycle(requests)
        self._idle: deque[_Connection] = deque()
        self._due: deque[float] = deque()
        self._paced = False

    async def connect(self, port: int, connections: int) -> None:
        """Open the connections; they send nothing yet."""
        loop = asyncio.get_running_loop()
        for _ in range(connections):
            _, connection = await loop.create_connection(lambda: _Connection(self), "127.0.0.1", port)
            self._idle.append(connection)

    async def run(self, seconds: float) -> None:
        """Keep each connection busy."""
        self._paced = False
        while self._idle:
            self._idle.popleft().send(next(self._requests), time.perf_counter())
        await asyncio.sleep(seconds)
        self._paced = True

    async def pace(self, seconds: float, rate: float) -> None:
        """Send `rate` requests a second, whether or not those before are answered; timed from when it is due."""
        self._paced = True
        self.seconds.clear()
        began = time.perf_counter()
        sent = 0
        while (now := time.perf_counter() - began) < seconds:
            while sent < now * rate:
                self._due.append(began + sent / rate)
                sent += 1
            while self._due and self._idle:
                self._idle.popleft().send(next(self._requests), self._due.popleft())
            await asyncio.sleep(0.001)

    def answer(self, connection: "_Connection", seconds: float) -> None:
        """An answer came on this connection."""
        self.answered += 1
        self.seconds.append(seconds)
        if not self._paced:
            connection.send(next(self._requests), time.perf_counter())
        elif self._due:
            connection.send(next(self._requests), self._due.popleft())
        else:
            self._idle.append(connection)


class _Connection(asyncio.Protocol):
    def __init__(self, load: Load) -> None:
        self._load = load
        self._since = 0.0
        self._answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def send(self, request: bytes, since: float) -> None:
        self._since = since
        self._transport.write(request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if self._answer.endswith(b"}") or b"\r\nContent-Length: 0\r\n" in self._answer:
            if not self._answer.startswith(b"HTTP/1.1 200 ") or b"rejected" in self._answer:
                sys.exit(f"the collector answered {self._answer!r}")
            self._answer = b""
            self._load.answer(self, time.perf_counter() - self._since)


def requests(size: int) -> list[bytes]:
    """Requests with `size` events of 1.3 KB each."""
    events = make_events(0, max(1000, 100 * size))
    login = base64.b64encode(f"{KEY}:".encode())
    made = []
    for first in range(0, len(events), size):
        path, body = b"track", events[first]
        if size > 1:
            path, body = b"batch", b'{"batch":[%b],"sentAt":"2026-01-02T03:04:06Z"}' % b",".join(events[first:][:size])
        made.append(
            b"POST /v1/%b HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Basic %b\r\nContent-Type: application/json\r\n"
            b"User-Agent: bench/1.0\r\nContent-Length: %d\r\n\r\n%b" % (path, login, len(body), body)
        )
    return made


async def measure_load(child: subprocess.Popen[str], port: int, *, size: int, connections: int, seconds: float) -> None:
    """Load the collector with requests of `size` events for so many seconds, then with half for half as long."""
    load = Load(requests(size))
    await load.connect(port, connections)
    await load.run(2)
    used, answered, began = measure.cpu(child.pid), load.answered, time.perf_counter()
    await load.run(seconds)
    used, answered, took = measure.cpu(child.pid) - used, load.answered - answered, time.perf_counter() - began
    rate = answered / took
    await load.pace(seconds / 2, rate / 2)
    cuts = quantiles(load.seconds, n=100)
    print(
        f"{size} a request, {connections} connections:"
        f" {answered * size / used:,.0f} events per CPU-second, {rate * size:,.0f} a second;"
        f" at half that, {rate * size / 2:,.0f}, p50 {cuts[49] * 1000:.1f} ms and p99 {cuts[98] * 1000:.1f} ms;"
        f" {measure.memory(child.pid):.0f} MB",
        flush=True,
    )


async def compare(ours: tuple[int, int], theirs: tuple[int, int], size: int, connections: int, seconds: float) -> None:
    """Load the collector and the peer, each a process and its port, in turns."""
    loads = [Load(requests(size)) for _ in range(2)]
    for load, (_, port) in zip(loads, (ours, theirs), strict=True):
        await load.connect(port, connections)
        await load.run(1)
    rates: list[list[float]] = []
    for _ in range(TURNS):
        turn = []
        for load, (pid, _) in zip(loads, (ours, theirs), strict=True):
            used, answered = measure.cpu(pid), load.answered
            await load.run(seconds)
            turn.append((load.answered - answered) * size / (measure.cpu(pid) - used))
        rates.append(turn)
    mine, its = (median(rate) for rate in zip(*rates, strict=True))
    ratio = median(here / there for here, there in rates)
    print(
        f"{size} a request, {connections} connections, in turns: {mine:,.0f} events per CPU-second,"
        f" Redpanda Connect {its:,.0f}: {ratio:.2f} times as many here",
        flush=True,
    )


async def main(seconds: float) -> None:
    core, _ = measure.cores()
    with tempfile.TemporaryDirectory() as folder, real_kafka.running(Path(folder)) as kafka:
        create_topics(Broker(bootstrap=kafka.bootstrap), TOPICS.declared([]), replication=1)
        child = measure.start("tests.benchmarks.collector", "--collect", kafka.bootstrap, core=core)
        assert child.stdout
        port = int(child.stdout.readline())
        there = connect.build()
        try:
            for size, connections in ((100, 16), (1, 64)):
                await measure_load(child, port, size=size, connections=connections, seconds=seconds)
                if there:
                    peer, its_port = connect.start(
                        kafka.bootstrap, TOPICS.events, size=size, core=core, folder=Path(folder)
                    )
                    try:
                        await compare((child.pid, port), (peer.pid, its_port), size, connections, seconds / 2)
                    finally:
                        peer.terminate()
                        peer.wait()
        finally:
            child.terminate()
            child.wait()


if __name__ == "__main__":
    import uvloop

    if sys.argv[1:2] == ["--collect"]:
        uvloop.run(collect(sys.argv[2]))
    else:
        uvloop.run(main(float(sys.argv[1]) if sys.argv[1:] else 10))
