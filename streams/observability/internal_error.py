"""Errors of ours in the handling of a record: how they are named and described."""

from pathlib import Path
from traceback import extract_tb
from typing import Final

INTERNAL: Final = "internal"
"""The reason of dead letters and rejected records whose handling failed."""


def describe(error: BaseException) -> str:
    """Describe an error without its text, which may quote a record: `KeyError at routing/router.py:120`."""
    frames = extract_tb(error.__traceback__)
    if not frames:
        return type(error).__name__
    place = "/".join(Path(frames[-1].filename).parts[-2:])
    return f"{type(error).__name__} at {place}:{frames[-1].lineno}"
