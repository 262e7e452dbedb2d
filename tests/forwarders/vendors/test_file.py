"""The file forwarder on real files, in real processes."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from textwrap import dedent
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarders.api.contract import Delivered, Delivery, OffsetRange, Retry
from forwarders.vendors.file import forwarder as file
from forwarders.vendors.file.forwarder import File, FileSettings

PLACE = OffsetRange("t", 0, 0, 0)


def items(*payloads: dict[str, Any]) -> list[Delivery]:
    return [Delivery(f"m-{n}", payload, "track", None, "2026-01-02T03:04:05Z") for n, payload in enumerate(payloads)]


def lines(folder: Path, pattern: str = "*.ndjson") -> list[Any]:
    return [orjson.loads(line) for path in sorted(folder.glob(pattern)) for line in path.read_bytes().splitlines()]


def leave_open(folder: Path, content: bytes) -> Path:
    path = folder / "20260102T030405Z-left.ndjson.open"
    path.write_bytes(content)
    return path


def wait_for_file(folder: Path) -> None:
    end = time.monotonic() + 120
    while not list(folder.glob("*.ndjson")):
        assert time.monotonic() < end
        time.sleep(0.005)


async def write(forwarder: File, *batches: Sequence[Delivery]) -> None:
    await forwarder.open()
    for batch in batches:
        assert await forwarder.write(batch, PLACE) == [Delivered()] * len(batch)
    await forwarder.close()


def test_one_payload_a_line(tmp_path: Path) -> None:
    """Payloads become lines in their order, whatever characters are in them, and closing gives the final name."""
    payloads = [{"text": 'a\nb\r"\u2028\x00'}, {"n": 1}, {}]
    asyncio.run(write(File(FileSettings(folder=tmp_path / "new" / "folder")), items(*payloads)))
    assert lines(tmp_path / "new" / "folder") == payloads
    assert not list(tmp_path.rglob("*.open"))


def test_on_disk_when_answered(tmp_path: Path) -> None:
    """Confirmed deliveries are already in the open file."""

    async def run() -> None:
        forwarder = File(FileSettings(folder=tmp_path))
        await forwarder.open()
        await forwarder.write(items({"n": 1}), PLACE)
        assert lines(tmp_path, "*.open") == [{"n": 1}]
        await forwarder.close()

    asyncio.run(run())


def test_rolled_by_size(tmp_path: Path) -> None:
    """A file that has reached its size gets its final name, and the next write a new file."""
    forwarder = File(FileSettings(folder=tmp_path, roll_bytes=20))
    asyncio.run(write(forwarder, *[items({"number": n}) for n in range(6)]))
    assert [len(path.read_bytes().splitlines()) for path in tmp_path.glob("*.ndjson")] == [2, 2, 2]


def test_rolled_by_time(tmp_path: Path) -> None:
    """A file gets its final name when it is old enough, also if nothing more is written."""

    async def run() -> None:
        forwarder = File(FileSettings(folder=tmp_path, roll_seconds=0.01))
        await forwarder.open()
        await forwarder.write(items({"n": 1}), PLACE)
        await asyncio.to_thread(wait_for_file, tmp_path)
        await forwarder.write(items({"n": 2}), PLACE)
        await forwarder.close()

    asyncio.run(run())
    assert len(list(tmp_path.glob("*.ndjson"))) == 2


def test_workers_share_a_folder(tmp_path: Path) -> None:
    """Workers that write into one folder at the same time keep out of each other's files."""

    async def run() -> None:
        workers = [File(FileSettings(folder=tmp_path, roll_bytes=50)) for _ in range(4)]
        await asyncio.gather(
            *(write(worker, *[items({"worker": n, "i": i}) for i in range(20)]) for n, worker in enumerate(workers))
        )

    asyncio.run(run())
    written = [(row["worker"], row["i"]) for row in lines(tmp_path)]
    assert sorted(written) == [(worker, i) for worker in range(4) for i in range(20)]


@given(st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=20), max_size=3), max_size=5), st.data())
def test_torn_at_any_byte(tmp_path_factory: pytest.TempPathFactory, payloads: list[Any], data: st.DataObject) -> None:
    """Wherever a crash cuts a file, the next start keeps the whole lines before the cut and nothing else."""
    folder = tmp_path_factory.mktemp("torn")
    whole = b"".join(orjson.dumps(payload) + b"\n" for payload in payloads)
    cut = data.draw(st.integers(0, len(whole)))
    leave_open(folder, whole[:cut])
    file.repair(folder)
    assert lines(folder) == [orjson.loads(line) for line in whole[:cut].splitlines(keepends=True) if line[-1:] == b"\n"]
    assert cut == 0 or not list(folder.glob("*.open"))


def test_empty_file_is_left_alone(tmp_path: Path) -> None:
    """An empty open file may belong to a process that is about to lock it."""
    path = leave_open(tmp_path, b"")
    file.repair(tmp_path)
    assert path.exists()


def test_living_process_keeps_its_file(tmp_path: Path) -> None:
    """A start repairs no file that a living process writes."""

    async def run() -> None:
        forwarder = File(FileSettings(folder=tmp_path))
        await forwarder.open()
        await forwarder.write(items({"n": 1}), PLACE)
        await asyncio.to_thread(file.repair, tmp_path)
        await forwarder.write(items({"n": 2}), PLACE)
        assert lines(tmp_path, "*.open") == [{"n": 1}, {"n": 2}]
        await forwarder.close()

    asyncio.run(run())


WRITER = dedent(
    """
    import asyncio, sys
    from pathlib import Path
    from forwarders.api.contract import Delivery, OffsetRange
    from forwarders.vendors.file.forwarder import File, FileSettings

    async def run():
        forwarder = File(FileSettings(folder=Path(sys.argv[1]), roll_bytes=5000))
        await forwarder.open()
        n = 0
        while True:
            items = [Delivery(str(i), {"n": i, "text": "x" * 40}, "track", None, "") for i in range(n, n + 5)]
            await forwarder.write(items, OffsetRange("t", 0, n, n + 4))
            n += 5
            print(n, flush=True)

    asyncio.run(run())
    """
)


@pytest.mark.parametrize("confirmed", [5, 35, 300])
def test_kill(tmp_path: Path, confirmed: int) -> None:
    """After kill -9 at any moment, every line that was answered for is there once, whole, after the next start."""
    with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        answered = 0
        while answered < confirmed:
            answered = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        answered = int((process.stdout.read().splitlines() or [str(answered)])[-1])
    file.repair(tmp_path)
    numbers = sorted(row["n"] for row in lines(tmp_path))
    assert numbers == list(range(len(numbers)))
    assert len(numbers) >= answered
    assert not list(tmp_path.glob("*.open"))


def test_failed_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the disk fails to sync, nothing is confirmed, the batch leaves no data, and writing continues."""

    async def run() -> None:
        forwarder = File(FileSettings(folder=tmp_path))
        await forwarder.open()
        await forwarder.write(items({"n": 1}), PLACE)
        with monkeypatch.context() as broken:

            def refuse(_: int) -> None:
                raise OSError(28, "No space left on device")

            broken.setattr(os, "fsync", refuse)
            assert await forwarder.write(items({"n": 2}, {"n": 3}), PLACE) == [Retry(), Retry()]
        await forwarder.write(items({"n": 4}), PLACE)
        await forwarder.close()

    asyncio.run(run())
    file.repair(tmp_path)
    assert sorted(row["n"] for row in lines(tmp_path)) == [1, 4]


def test_missing_folder_is_tried_again(tmp_path: Path) -> None:
    """A folder that goes away costs no delivery."""

    async def run() -> None:
        forwarder = File(FileSettings(folder=tmp_path / "in"))
        await forwarder.open()
        (tmp_path / "in").rmdir()
        assert await forwarder.write(items({"n": 1}), PLACE) == [Retry()]

    asyncio.run(run())
