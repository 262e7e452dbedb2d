"""Write files that survive a power failure."""

import os
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile


def sync(folder: Path) -> None:
    """Sync a folder, so that its file names survive a power failure."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def replace(path: Path, content: bytes) -> None:
    """Replace a file atomically, and create its parent folders; raises OSError.

    The content is first written to a hidden file in the same folder. If a crash leaves that file behind, the next
    attempt to write the same file removes it.
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
