"""Shared helpers: a producer that keeps its records, a running collector, and a bare HTTP client."""

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import orjson

from streams.collector.server import Collector
from streams.collector.settings import CollectorSettings
from streams.kafka.acks import PendingAcks
from streams.kafka.producer import Producer
from streams.kafka.settings import Broker, BrokerError
from streams.records.format import Headers
from streams.records.size import RecordTooLargeError
from streams.sources.source import Source, Sources
from streams.topics import Topics

KEY = "web-key"
TOPICS = Topics(prefix="t", partitions=3)
SOURCES = Sources([Source.of("web", [KEY]), Source.of("server", ["server-key"])])


DIRECT = True
"""Whether collectors handle events without ASGI; the fixture `way` sets it."""


class Record(NamedTuple):
    """An appended record."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class Kept(Producer):
    """A producer without a broker: keeps records, and confirms them according to `mode`."""

    def __init__(self, mode: str = "confirm") -> None:
        super().__init__(Broker(), client_id="test")
        self.mode = mode
        self.records: list[Record] = []
        self.waiting: list[PendingAcks] = []

    async def start(self):
        """Do nothing."""

    async def stop(self, timeout: float = 10.0):
        """Do nothing."""

    async def reachable(self, timeout):
        return timeout > 0 and self.mode == "confirm"

    def append(self, topic, partition, acks, *, key, value, headers=()):
        if len(value) > self.record_bytes:
            raise RecordTooLargeError
        self.records.append(Record(topic, partition, key, value, headers))
        acks.hold()
        if self.mode == "hold":
            self.waiting.append(acks)
        else:
            asyncio.get_running_loop().call_soon(
                acks.release, None if self.mode == "confirm" else BrokerError("refused")
            )

    def confirm(self):
        """Confirm all pending records."""
        for acks in self.waiting:
            acks.release(None)
        self.waiting.clear()

    def values(self, topic: str) -> list[bytes | None]:
        """Return the values of a topic's records."""
        return [record.value for record in self.records if record.topic == topic]

    def events(self) -> list[dict[str, Any]]:
        """The accepted events."""
        return [orjson.loads(value or b"") for value in self.values(TOPICS.events)]


class Answer(NamedTuple):
    """An HTTP response; `json` is its parsed body."""

    status: int
    headers: dict[str, str]
    json: Any


@asynccontextmanager
async def serving(producer: Producer, topics: Topics = TOPICS, **settings: Any) -> AsyncIterator[Collector]:
    """Run a collector on a free port of this host."""
    configured = CollectorSettings(host="127.0.0.1", port=0, **settings)
    collector = Collector(configured, lambda: SOURCES, topics, producer, direct=DIRECT)
    ready = asyncio.Event()
    task = asyncio.create_task(collector.serve(ready.set))
    await asyncio.wait({task, asyncio.create_task(ready.wait())}, return_when=asyncio.FIRST_COMPLETED)
    try:
        yield collector
    finally:
        collector.stop()
        assert await task == 0


def basic(key: str) -> dict[str, str]:
    """Return the header with a write key."""
    return {"authorization": "Basic " + base64.b64encode(f"{key}:".encode()).decode()}


def post(path: str, body: bytes, headers: Mapping[str, str] | None = None, *, key: str | None = KEY) -> bytes:
    """Return the bytes of a POST request."""
    fields = {"host": "test", "content-length": str(len(body)), **(basic(key) if key else {}), **(headers or {})}
    return head("POST", path, fields) + body


def head(method: str, path: str, headers: Mapping[str, str]) -> bytes:
    """Return the bytes of a request's line and headers."""
    return "".join([f"{method} {path} HTTP/1.1\r\n", *(f"{k}: {v}\r\n" for k, v in headers.items()), "\r\n"]).encode()


async def exchange(collector: Collector, *parts: bytes) -> Answer:
    """Send bytes on a new connection, and read one response."""
    reader, writer = await asyncio.open_connection(*collector.address)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
        return await read_answer(reader)
    finally:
        writer.close()


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """Return the next response of a connection."""
    async with asyncio.timeout(120):
        line, *fields = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields if field)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Answer(int(line.split()[1]), headers, orjson.loads(body) if body else None)


async def send(collector: Collector, path: str, body: Any, **options: Any) -> Answer:
    """POST data as JSON."""
    return await exchange(collector, post(path, orjson.dumps(body), **options))
