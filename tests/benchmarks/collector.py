"""Measure the collector: events per CPU-second on real Kafka, latency at half that load, and its peers.

    python -m tests.benchmarks.collector [--seconds 10] [--before CHECKOUT]

Every event is validated, and a request is answered once Kafka has confirmed its events. The collectors run in turns,
pinned to one core; this client and Kafka use the other cores. The peers are Redpanda Connect, which checks nothing, the
same collector with all requests through ASGI, and the collector of CHECKOUT, a folder with an earlier version. The cost
of a tracking plan (tests/benchmarks/plans.py) is not included, since the router checks plans.
"""

import argparse
import asyncio
import base64
import sys
import tempfile
import time
from collections import deque
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple

from streams.kafka.admin import create_topics
from streams.kafka.settings import Broker
from streams.topics import Topics
from tests.benchmarks import connect, measure
from tests.benchmarks.events import make_events
from tests.support import real_kafka

TOPICS = Topics(prefix="bench")
KEY = "bench-key"
TURNS = 5


async def collect(bootstrap: str, *options: str) -> None:
    """Run the measured process: the collector, until it is stopped; with `asgi`, all requests go through ASGI."""
    from streams.collector.server import Collector
    from streams.collector.settings import CollectorSettings
    from streams.kafka.producer import Producer
    from streams.sources.source import Source, Sources

    sources = Sources([Source.of("web", [KEY])])
    producer = Producer(Broker(bootstrap=bootstrap), client_id="bench")
    settings = CollectorSettings(host="127.0.0.1", port=0)
    collector = Collector(settings, lambda: sources, TOPICS, producer, direct="asgi" not in options)
    sys.exit(await collector.serve(lambda: print(collector.address[1], flush=True)))


class Load:
    """Sends requests on several connections, one after another or at a rate; counts and times the responses."""

    def __init__(self, requests: list[bytes]) -> None:
        self.answered = 0
        self.seconds: list[float] = []
        self._requests = cycle(requests)
        self._idle: deque[_Connection] = deque()
        self._due: deque[float] = deque()
        self._paced = False

    async def connect(self, port: int, connections: int) -> None:
        """Open the connections without sending anything."""
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
        """Send `rate` requests per second without waiting for responses; latency counts from a request's due time."""
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
        """Record the response on a connection."""
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


class Shape(NamedTuple):
    """Events per request, connections, and whether a browser sends: with an Origin, and the key in the body."""

    size: int
    connections: int
    browser: bool = False

    def __str__(self) -> str:
        return f"{self.size} a request{' of a browser' * self.browser}, {self.connections} connections"


SHAPES = (Shape(100, 16), Shape(1, 64), Shape(1, 64, browser=True))


def requests(shape: Shape) -> list[bytes]:
    """Requests of a shape, with events of 1.3 KB each."""
    events = make_events(0, max(1000, 100 * shape.size))
    login = b"Authorization: Basic %b" % base64.b64encode(f"{KEY}:".encode())
    if shape.browser:
        login = b"Origin: https://shop.example.com\r\nReferer: https://shop.example.com/"
        events = [b'{"writeKey":"%b",%b' % (KEY.encode(), event[1:]) for event in events]
    made = []
    for first in range(0, len(events), shape.size):
        path, body = b"track", events[first]
        if shape.size > 1:
            batch = b",".join(events[first:][: shape.size])
            path, body = b"batch", b'{"batch":[%b],"sentAt":"2026-01-02T03:04:06Z"}' % batch
        made.append(
            b"POST /v1/%b HTTP/1.1\r\nHost: 127.0.0.1\r\n%b\r\nContent-Type: application/json\r\n"
            b"User-Agent: bench/1.0\r\nContent-Length: %d\r\n\r\n%b" % (path, login, len(body), body)
        )
    return made


class Peer(NamedTuple):
    """A running collector: its process and port."""

    pid: int
    port: int


async def measure_load(peer: Peer, shape: Shape, seconds: float) -> None:
    """Load a collector at full speed for `seconds`, then at half of that rate for half as long."""
    load = Load(requests(shape))
    await load.connect(peer.port, shape.connections)
    await load.run(2)
    answered, began = load.answered, time.perf_counter()
    await load.run(seconds)
    rate = (load.answered - answered) / (time.perf_counter() - began)
    await load.pace(seconds / 2, rate / 2)
    cuts = quantiles(load.seconds, n=100)
    print(
        f"{shape}: {rate * shape.size:,.0f} events a second; at half that, p50 {cuts[49] * 1000:.1f} ms"
        f" and p99 {cuts[98] * 1000:.1f} ms; {measure.memory(peer.pid):.0f} MB",
        flush=True,
    )


async def compare(peers: dict[str, Peer], shape: Shape, seconds: float) -> None:
    """Load the collectors in turns; print each one's events per CPU-second, and the first one's ratio to it."""
    loads = {name: Load(requests(shape)) for name in peers}
    for name, load in loads.items():
        await load.connect(peers[name].port, shape.connections)
        await load.run(1)
    rates: dict[str, list[float]] = {name: [] for name in peers}
    for _ in range(TURNS):
        for name, load in loads.items():
            used, answered = measure.cpu(peers[name].pid), load.answered
            await load.run(seconds)
            rates[name].append((load.answered - answered) * shape.size / (measure.cpu(peers[name].pid) - used))
    ours = next(iter(rates.values()))
    for name, theirs in rates.items():
        ratios = sorted(mine / its for mine, its in zip(ours, theirs, strict=True))
        print(
            f"{shape}: {name} {median(theirs):,.0f} events per CPU-second"
            + f"; {median(ratios):.2f} times as many here ({ratios[0]:.2f} to {ratios[-1]:.2f})" * (theirs is not ours),
            flush=True,
        )


async def main(seconds: float, before: Path | None) -> None:
    core, _ = measure.cores()
    with tempfile.TemporaryDirectory() as folder, real_kafka.running(Path(folder)) as kafka, ExitStack() as running:
        create_topics(Broker(bootstrap=kafka.bootstrap), TOPICS.declared([]), replication=1)

        def start(*options: str, folder: Path | None = None) -> Peer:
            arguments = ("tests.benchmarks.collector", "--collect", kafka.bootstrap, *options)
            child = measure.start(*arguments, core=core, folder=folder)
            running.callback(child.wait)
            running.callback(child.terminate)
            assert child.stdout
            return Peer(child.pid, int(child.stdout.readline()))

        peers = {"the collector": start(), "through ASGI": start("asgi")}
        if before:
            peers[f"before ({before.name})"] = start(folder=before)
        has_connect = connect.build()
        for shape in SHAPES:
            await measure_load(peers["the collector"], shape, seconds)
            with ExitStack() as beside:
                if has_connect:
                    peer, port = connect.start(
                        kafka.bootstrap, TOPICS.events, size=shape.size, core=core, folder=Path(folder)
                    )
                    beside.callback(peer.wait)
                    beside.callback(peer.terminate)
                    await compare({**peers, "Redpanda Connect": Peer(peer.pid, port)}, shape, seconds / 2)
                else:
                    await compare(peers, shape, seconds / 2)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--before", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    import uvloop

    if sys.argv[1:2] == ["--collect"]:
        uvloop.run(collect(*sys.argv[2:]))
    else:
        chosen = parse_arguments()
        uvloop.run(main(chosen.seconds, chosen.before and chosen.before.resolve()))
