"""Local files of newline-delimited JSON."""

import asyncio
import fcntl
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import orjson
from pydantic import Field
from typing_extensions import override

from forwarders.api.contract import (
    Category,
    Contract,
    Delivered,
    Delivery,
    Limits,
    OffsetRange,
    Request,
    Result,
    Retry,
    Settings,
    WriterForwarder,
)
from forwarders.api.durable import sync


class FileSettings(Settings):
    """Settings of a folder. A file is closed when it reaches the maximum size or age."""

    folder: Path
    """The folder. It is created if it does not exist."""
    roll_bytes: Annotated[int, Field(ge=1)] = 100_000_000
    """Maximum size of a file in bytes."""
    roll_seconds: Annotated[float, Field(gt=0)] = 3600.0
    """Maximum age of a file in seconds."""


class File(WriterForwarder[FileSettings]):
    """Each payload is a line. A file is named `….ndjson.open` while it is written, and `….ndjson` once it is closed.

    Deliveries are confirmed after a sync to disk. File names are unique, so several workers can share a folder. If a
    crash leaves a file open, the next worker truncates its incomplete last line and renames it. Deliveries that were
    not confirmed before a crash are written again, to another file.
    """

    contract = Contract(
        name="file",
        title="File (NDJSON)",
        documentation="https://github.com/ndjson/ndjson-spec",
        category=Category.STORAGE,
        settings=FileSettings,
        limits=Limits(items=10_000, bytes=16_000_000, item_bytes=16_000_000),
    )

    def __init__(self, settings: FileSettings) -> None:
        super().__init__(settings)
        self._file: OpenFile | None = None
        self._lock = threading.Lock()  # not asyncio's, because a cancelled write continues in its thread

    @override
    async def open(self) -> None:
        await asyncio.to_thread(repair, self.settings.folder)

    @override
    async def write(self, items: Sequence[Delivery], offsets: OffsetRange) -> Sequence[Result]:
        try:
            new = await asyncio.to_thread(self._append, _lines(items))
        except OSError:
            return [Retry()] * len(items)
        if new is not None:
            loop = asyncio.get_running_loop()
            loop.call_later(self.settings.roll_seconds, loop.run_in_executor, None, self._close, new)
        return [Delivered()] * len(items)

    @override
    async def close(self) -> None:
        await asyncio.to_thread(self._close)

    @override
    def preview(self, items: Sequence[Delivery]) -> Request:
        return Request("WRITE", f"file:{self.settings.folder}/", body=_lines(items))

    def _append(self, lines: bytes) -> "OpenFile | None":
        """Write and sync lines. Return the file if it was opened for them and stays open."""
        with self._lock:
            new = self._file is None
            file = self._file = self._file or OpenFile(self.settings.folder)
            try:
                file.append(lines)
            except OSError:
                self._finish()
                raise
            if file.size >= self.settings.roll_bytes:
                self._finish()
            return file if new and self._file else None

    def _close(self, only: "OpenFile | None" = None) -> None:
        """Close the open file; with `only`, do so only if it is still the same file."""
        with self._lock:
            if only in (None, self._file):
                self._finish()

    def _finish(self) -> None:
        """Close the open file. If that fails, the synced lines are safe, and `repair` closes it at the next start."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                file.close()


class OpenFile:
    """A file that is being written. It is locked while its process is alive; `size` is its synced size."""

    SUFFIX = ".ndjson.open"

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid4().hex}{self.SUFFIX}"
        self.size = 0
        self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o640)
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        sync(folder)

    def append(self, lines: bytes) -> None:
        """Write complete lines and sync them. After an error, the file must be closed."""
        rest = memoryview(lines)
        while rest:
            rest = rest[os.write(self._fd, rest) :]
        os.fsync(self._fd)
        self.size += len(lines)

    def close(self) -> None:
        """Truncate the file to its synced length, and rename it."""
        try:
            _finish(self.path, self._fd, self.size)
        finally:
            os.close(self._fd)


def repair(folder: Path) -> None:
    """Create the folder if necessary, and close the files of processes that no longer exist."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob(f"*{OpenFile.SUFFIX}"):
        with suppress(FileNotFoundError, BlockingIOError), path.open("rb+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file.fileno()).st_size:  # the process of an empty file may be about to lock it
                with mmap(file.fileno(), 0, access=ACCESS_READ) as content:
                    size = content.rfind(b"\n") + 1
                _finish(path, file.fileno(), size)


def _finish(path: Path, fd: int, size: int) -> None:
    os.ftruncate(fd, size)
    os.fsync(fd)
    if size:
        path.rename(path.with_suffix(""))
    else:
        path.unlink()
    sync(path.parent)


def _lines(items: Sequence[Delivery]) -> bytes:
    return b"".join(orjson.dumps(item.payload, option=orjson.OPT_APPEND_NEWLINE) for item in items)
