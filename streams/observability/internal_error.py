"""Name and describe internal errors in the handling of a record."""

from pathlib import Path
from traceback import extract_tb
from typing import Final

INTERNAL: Final = "internal"
"""The reason of dead letters and rejected records after an internal error."""


def describe(error: BaseException) -> str:
    """Describe an error without its text, which may quote a record: `KeyError at routing/router.py:120`."""
    frames = extract_tb(error.__traceback__)
    if not frames:
        return type(error).__name__
    place = "/".join(Path(frames[-1].filename).parts[-2:])
    return f"{type(error).__name__} at {place}:{frames[-1].lineno}"
