"""Spool records to an unnamed file on local disk, which disappears with its process."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from struct import Struct
from tempfile import TemporaryFile
from typing import Any, NamedTuple

HEAD = Struct("<qii")
"""Before each record: its offset, and the lengths of its key and value, -1 for None."""

BUFFER_BYTES = 256 * 1024


class Spooled(NamedTuple):
    """The parts of a record that are kept."""

    offset: int
    key: bytes | None
    value: bytes | None


class SpoolClosedError(Exception):
    """The spool was closed, and its records are gone."""


class Spool:
    """Records in the order in which they are added, read once they are complete.

    Raises OSError if the disk fails. Nothing is lost then: the call may be repeated.
    """

    __slots__ = ("_file", "_unwritten", "_unwritten_size", "_written")

    def __init__(self, folder: Path) -> None:
        self._file = TemporaryFile(dir=folder, prefix="turnout-spool-", buffering=0)  # noqa: SIM115
        self._written = 0
        self._unwritten: list[bytes] = []
        self._unwritten_size = 0

    def put(self, record: Any) -> None:
        """Add a record's offset, key and value; if this raises OSError, the record was not added."""
        if self._unwritten_size >= BUFFER_BYTES:
            self._write()
        key, value = record.key, record.value
        head = HEAD.pack(record.offset, -1 if key is None else len(key), -1 if value is None else len(value))
        content = b"".join((head, key or b"", value or b""))
        self._unwritten.append(content)
        self._unwritten_size += len(content)

    def _write(self) -> None:
        # Overwrites what an earlier attempt wrote of it.
        content = memoryview(b"".join(self._unwritten))
        number, at = self._file.fileno(), 0
        while at < len(content):
            at += os.pwrite(number, content[at:], self._written + at)
        self._written += len(content)
        self._unwritten.clear()
        self._unwritten_size = 0

    def records(self) -> Iterator[Spooled]:
        """Yield all records; raises SpoolClosedError."""
        try:
            with suppress(OSError):
                self._write()
            self._file.seek(0)
            content = self._file.read()[: self._written]
        except ValueError as error:
            raise SpoolClosedError from error
        if self._unwritten:
            content = b"".join((content, *self._unwritten))
        at = 0
        while at < len(content):
            offset, key, value = HEAD.unpack_from(content, at)
            begin = at + HEAD.size
            middle = begin + max(0, key)
            at = middle + max(0, value)
            yield Spooled(offset, None if key < 0 else content[begin:middle], None if value < 0 else content[middle:at])

    def close(self) -> None:
        """Discard all records."""
        self._file.close()
        self._unwritten.clear()
