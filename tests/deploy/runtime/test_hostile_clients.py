"""The collector's process among a hundred hostile clients: its memory is bounded, and others are still served."""

import asyncio
import base64
import gzip
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support import tansu

pytestmark = pytest.mark.anyio

HELD = 16 * 1024 * 1024
ROOM = 64 * 1024 * 1024
"""What a body costs while it is inflated and parsed, and what the allocator keeps."""

BODY = 4 * 1024 * 1024 - 1
KEY = "authorization: Basic " + base64.b64encode(b"k:").decode()
EVENT = b'{"type":"track","event":"E","userId":"u"}'
DEEP = b'{"batch":[' + b'{"a":' * 200_000


def request(body: bytes, *headers: str, length: int | None = None) -> bytes:
    """A batch as it goes over the wire."""
    fields = ("host: test", KEY, f"content-length: {len(body) if length is None else length}", *headers)
    return "\r\n".join(["POST /v1/batch HTTP/1.1", *fields, "", ""]).encode() + body


def hostile_requests() -> list[bytes]:
    """What a hundred clients send."""
    bomb = gzip.compress(bytes(200 * 1024 * 1024), 1, mtime=0)
    return [
        *[request(b" " * (BODY - 1), length=BODY)] * 40,  # stalls before the last byte
        *[b"POST /v1/batch HTTP/1.1\r\nx: " + b"x" * 60_000] * 15,  # stalls in its head
        *[request(bomb, "content-encoding: gzip")] * 15,
        *[request(DEEP)] * 15,
        *[b""] * 15,
    ]


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """A collector's process with little room for bodies: its id and its port."""
    with tansu.running() as broker:
        settings = {
            "broker": {"bootstrap": broker.bootstrap, "idempotent": False},
            "partitions": 1,
            "replication": 1,
            "collector": {"host": "127.0.0.1", "port": 0, "held_bytes": HELD, "read_timeout": 60},
        }
        (tmp_path / "turnout.yaml").write_text(json.dumps(settings))
        (tmp_path / "sources").mkdir()
        (tmp_path / "sources/web.yaml").write_text("source: web\nwrite_keys: ['${KEY}']\n")
        command = Path(sys.executable).parent / "turnout"
        there = {**os.environ, "KEY": "k", "TURNOUT_CONFIG": str(tmp_path)}
        subprocess.run([command, "topics", "--create"], env=there, check=True, capture_output=True, timeout=120)
        with (
            (tmp_path / "log").open("wb+") as log,
            subprocess.Popen([command, "collector"], env=there, stderr=log) as process,
        ):
            try:
                deadline = time.monotonic() + 120
                while b'"port"' not in (said := (tmp_path / "log").read_bytes()):
                    assert process.poll() is None, said
                    assert time.monotonic() < deadline, said
                    time.sleep(0.05)
                yield process.pid, json.loads(said.splitlines()[-1])["port"]
            finally:
                process.terminate()


async def test_memory_is_bounded_and_others_are_served(collector: tuple[int, int]):
    """Neither stalled nor malicious bodies take more than `held_bytes` and a constant; afterwards all is as before."""
    process, port = collector
    assert await send(port) == 200
    before = peak(process)
    async with asyncio.timeout(120):
        async with hostile([client(port, sent) for sent in hostile_requests()]):
            statuses = {await send(port) for _ in range(20)}
    assert statuses <= {200, 503}
    assert peak(process) - before < HELD + ROOM
    async with asyncio.timeout(120):
        while await send(port) != 200:
            await asyncio.sleep(0.1)


@asynccontextmanager
async def hostile(clients: list) -> AsyncIterator[None]:
    """So many clients at once, each after its first bytes were taken or refused."""
    writers = await asyncio.gather(*clients)
    try:
        yield
    finally:
        for writer in writers:
            writer.close()


async def client(port: int, sent: bytes) -> asyncio.StreamWriter:
    """One that sends this, and then stays."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    waiting = asyncio.create_task(reader.read(1))
    taken = asyncio.create_task(writer.drain())
    await asyncio.wait({waiting, taken}, return_when=asyncio.FIRST_COMPLETED, timeout=120)
    waiting.cancel()
    return writer


async def send(port: int) -> int:
    """The status that an honest client's batch is answered with."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request(b'{"batch":[' + EVENT + b"]}"))
    async with asyncio.timeout(120):
        line = await reader.readline()
    writer.close()
    return int(line.split()[1])


def peak(process: int) -> int:
    """The most memory that a process has had, in bytes."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024
