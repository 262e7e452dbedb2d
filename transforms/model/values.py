"""JSON values as rules see them: the missing value, the numbers that fit a payload, and the words of a name."""

import re
from enum import Enum
from functools import lru_cache
from math import isfinite
from typing import Any, Final


class Missing(Enum):
    """The type of MISSING."""

    MISSING = "missing"

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing.MISSING
"""The value of a field that does not exist. Unlike null, it is dropped from a payload."""

MIN_INTEGER, MAX_INTEGER = -(2**63), 2**64 - 1
"""The integers that orjson can write."""

MAX_WORDS_CHARACTERS = 200
"""Characters of the longest text that has words; no event name is longer."""

_SEPARATORS = re.compile(r"[\s_-]+")


def fits_json(number: float) -> bool:
    """Return whether a payload can hold this number."""
    return isfinite(number) if type(number) is float else MIN_INTEGER <= number <= MAX_INTEGER


@lru_cache(4096)
def _words(text: str) -> str:
    return _SEPARATORS.sub("", text).casefold()


def words(value: Any) -> Any:
    """Return a text without case, blanks, `_` and `-`, for comparison by words; return other values unchanged."""
    if type(value) is not str:
        return value
    return _words(value) if len(value) <= MAX_WORDS_CHARACTERS else ""
