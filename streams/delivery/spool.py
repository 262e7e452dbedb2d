"""Records that wait on local disk, in a file without a name: when its process ends, however it ends, it is gone."""

from collections.abc import Iterator
from pathlib import Path
from struct import Struct
from tempfile import TemporaryFile
from typing import Any, NamedTuple

HEAD = Struct("<qii")
"""Before each record: its offset, and the lengths of its key and value; -1 stands for none."""

BUFFER = 256 * 1024


class Spooled(NamedTuple):
    """What is kept of a record."""

    offset: int
    key: bytes | None
    value: bytes | None


class SpoolClosedError(Exception):
    """The records are gone."""


class Spool:
    """Records in the order they are put in; read once, whole. Raises OSError where the disk does not take them."""

    __slots__ = ("_file",)

    def __init__(self, folder: Path) -> None:
        self._file = TemporaryFile(dir=folder, prefix="turnout-spool-", buffering=BUFFER)  # noqa: SIM115

    def put(self, record: Any) -> None:
        """Keep a record's offset, key and value."""
        key, value = record.key, record.value
        head = HEAD.pack(record.offset, -1 if key is None else len(key), -1 if value is None else len(value))
        self._file.write(b"".join((head, key or b"", value or b"")))

    def take(self) -> Iterator[Spooled]:
        """All records, which are then no longer here; raises SpoolClosedError."""
        try:
            self._file.seek(0)
            content = self._file.read()
        except ValueError as error:
            raise SpoolClosedError from error
        self.close()
        at = 0
        while at < len(content):
            offset, key, value = HEAD.unpack_from(content, at)
            begin = at + HEAD.size
            middle = begin + max(0, key)
            at = middle + max(0, value)
            yield Spooled(offset, None if key < 0 else content[begin:middle], None if value < 0 else content[middle:at])

    def close(self) -> None:
        """Forget all."""
        self._file.close()
