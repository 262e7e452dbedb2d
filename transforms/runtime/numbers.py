"""Numbers that fit a payload, and a count of the values that rules had to leave out."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from transforms.model.values import MISSING, fits_json

_left_out: Counter[str] = Counter()


def fitting(number: Any, directive: str) -> Any:
    """Return the number; if a payload cannot hold it, count it and return MISSING."""
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
