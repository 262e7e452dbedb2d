"""Which numbers a payload may hold, and a count of the values that rules had to leave out."""

from collections import Counter
from collections.abc import Sequence
from math import isfinite
from typing import Any

from transforms.model.nodes import MISSING

MIN_INTEGER, MAX_INTEGER = -(2**63), 2**64 - 1
"""What orjson, which writes the payloads, takes."""

_left_out: Counter[str] = Counter()


def fits_json(number: float) -> bool:
    """Say whether a payload can hold this number."""
    return isfinite(number) if type(number) is float else MIN_INTEGER <= number <= MAX_INTEGER


def fitting(number: Any, directive: str) -> Any:
    """Return the number, or MISSING and count it if a payload cannot hold it."""
    return number if number is MISSING or fits_json(number) else leave_out(directive)


def leave_out(directive: str) -> Any:
    """Count a value that a directive had to leave out, and return MISSING."""
    _left_out[directive] += 1
    return MISSING


def take_left_out() -> Sequence[tuple[str, int]]:
    """Return how many values were left out since the last call, by directive."""
    if not _left_out:
        return ()
    counts = tuple(_left_out.items())
    _left_out.clear()
    return counts
