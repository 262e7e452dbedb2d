"""Files that outlive the machine's power."""

import os
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile


def sync(folder: Path) -> None:
    """Make a folder's names durable."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def replace(path: Path, content: bytes) -> None:
    """Put a whole file in the place of what has its name, making the folders above it; raises OSError.

    Until then it has a hidden name beside it, which readers of folders pass over. What a crash left there goes with the
    next attempt at the same file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    before = list(path.parent.glob(f".{path.name}.*"))
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), 0o640)
            Path(file.name).rename(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    for left in before:
        with suppress(OSError):
            left.unlink()
    sync(path.parent)
