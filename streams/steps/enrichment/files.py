"""The files of data that enrichments read."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from transforms import RuleError

T = TypeVar("T")

Key = tuple[str | int, ...]
"""The keys and indexes that lead to a setting."""


class SettingError(Exception):
    """A setting that an enrichment cannot work by: which one, what is wrong, and what would be right."""

    def __init__(self, key: Key, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.key, self.message, self.hint = key, message, hint


Stamp = tuple[int, int, int]
"""Tells a file from the one that it was replaced by: device or inode, size, time of change."""

# What was read of each file last. It is read again only when the file has been replaced, so that new configuration does
# not load large files anew.
_read: dict[tuple[Path, Callable[[Path], Any]], tuple[Stamp | None, Any]] = {}


class Files:
    """Reads files whose names are relative to a configuration folder; `used` are all that were named, as they were."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.used: dict[Path, Stamp | None] = {}

    def read(self, name: Path, key: Key, reader: Callable[[Path], T]) -> T:
        """What `reader` makes of a file; raises SettingError for the setting at `key` where it cannot be read.

        The reader raises ValueError, or RuleError where it knows the line.
        """
        path = self.folder / name
        # Before it is read: a file that changes meanwhile is another than this.
        stamp = self.used[path] = stamp_of(path)
        kept = _read.get((path, reader))
        if kept and kept[0] == stamp and stamp:
            return kept[1]  # type: ignore[no-any-return]
        try:
            found = reader(path)
        except OSError as error:
            hint = "a path is relative to the configuration folder" if not name.is_absolute() else None
            raise SettingError(key, f"cannot read {path}: {error.strerror or error}", hint) from None
        except RuleError as error:
            raise SettingError(key, str(error)) from None
        except ValueError as error:
            raise SettingError(key, f"{path}: {error}") from None
        _read[path, reader] = (stamp, found)
        return found


def stamp_of(path: Path) -> Stamp | None:
    """The stamp of a file; None where there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def are_replaced(files: Mapping[Path, Stamp | None]) -> bool:
    """Whether any of these files is another than it was, or has come, or is gone."""
    return any(stamp_of(path) != stamp for path, stamp in files.items())
