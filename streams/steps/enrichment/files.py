"""Read the data files of enrichments."""

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from transforms import RuleError

T = TypeVar("T")

Key = tuple[str | int, ...]
"""The keys and indexes of a setting's path."""


class SettingError(Exception):
    """An invalid setting of an enrichment: its path, the error, and a hint."""

    def __init__(self, key: Key, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.key, self.message, self.hint = key, message, hint


Stamp = tuple[int, int, int]
"""Identifies one version of a file: device or inode, size, modification time."""

# The last content of each file. A file is read again only if it has been replaced, so that a configuration reload does
# not load large files again.
_read: dict[tuple[Path, Callable[[Path], Any]], tuple[Stamp | None, Any, str]] = {}


class Files:
    """Reads files relative to a configuration folder.

    `used` has the stamps of all files that were named. `digests` has the SHA-256 of those that were read, in hex, by
    their names. `replaced` has paths of files to read instead, by name.
    """

    def __init__(self, folder: Path, replaced: Mapping[Path, Path] | None = None) -> None:
        self.folder = folder
        self.used: dict[Path, Stamp | None] = {}
        self.digests: dict[Path, str] = {}
        self._replaced = replaced

    def read(self, name: Path, key: Key, reader: Callable[[Path], T]) -> T:
        """Return `reader`'s result for a file; raises SettingError for the setting at `key` if it cannot be read.

        The reader raises ValueError, or RuleError with a position.
        """
        path = self.folder / (self._replaced or {}).get(name, name)
        # Taken before reading, so that a change during reading is noticed.
        stamp = self.used[path] = stamp_of(path)
        kept = _read.get((path, reader))
        if kept and kept[0] == stamp and stamp:
            self.digests[name] = kept[2]
            return kept[1]  # type: ignore[no-any-return]
        try:
            found = reader(path)
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            hint = "paths are relative to the configuration folder" if not name.is_absolute() else None
            raise SettingError(key, f"cannot read {path}: {error.strerror or error}", hint) from None
        except RuleError as error:
            raise SettingError(key, str(error)) from None
        except ValueError as error:
            raise SettingError(key, f"{path}: {error}") from None
        self.digests[name] = digest
        if self._replaced is None:
            _read[path, reader] = (stamp, found, digest)
        return found


def stamp_of(path: Path) -> Stamp | None:
    """Return the stamp of a file, or None if it does not exist."""
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def find_replaced(files: Mapping[Path, Stamp | None]) -> list[Path]:
    """Return those of the files that were replaced, added or removed."""
    return [path for path, stamp in files.items() if stamp_of(path) != stamp]
