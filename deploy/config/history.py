"""Read who changed a configuration folder, and how, from git."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

MAX_CHANGES = 30
TIMEOUT_SECONDS = 5.0

_FIELDS = ("%h", "%aI", "%an", "%s")
_FORMAT = "%x1e" + "%x1f".join(_FIELDS)


@dataclass(frozen=True, slots=True)
class FolderChange:
    """A commit: its short ID, when (RFC 3339) and by whom it was written, its subject, and the files of the folder."""

    commit: str
    at: str
    who: str
    subject: str
    files: tuple[str, ...]


def read_history(folder: Path, number: int = MAX_CHANGES) -> list[FolderChange] | None:
    """Return the last changes of a folder, the newest first; None if git does not keep its history."""
    command = [
        *("git", "-C", str(folder), "--no-pager", "-c", "core.quotePath=false", "log", f"--max-count={number}"),
        *(f"--format={_FORMAT}", "--name-only", "--relative", "--no-color", "--no-show-signature", "--", "."),
    ]
    environment: Mapping[str, str] = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    try:
        ran = subprocess.run(  # noqa: S603  # no part of it is from an event
            command, capture_output=True, check=True, timeout=TIMEOUT_SECONDS, env=environment, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return [_change(text) for text in ran.stdout.decode(errors="replace").split("\x1e")[1:]]


def has_changes(folder: Path) -> bool:
    """Return whether the folder has changes that are not committed."""
    command = ["git", "-C", str(folder), "--no-optional-locks", "status", "--porcelain", "--", "."]
    try:
        ran = subprocess.run(  # noqa: S603  # no part of it is from an event
            command, capture_output=True, check=True, timeout=TIMEOUT_SECONDS, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return bool(ran.stdout.strip())


def _change(text: str) -> FolderChange:
    head, _, files = text.partition("\n")
    commit, at, who, subject = head.split("\x1f", 3)
    return FolderChange(commit, at, who, subject, tuple(filter(None, files.splitlines())))
