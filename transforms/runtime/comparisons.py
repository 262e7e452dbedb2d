"""Comparisons: a condition's, and those of JSONPath filters as RFC 9535 (2.3.5.2.2) has them."""

import re
from functools import lru_cache
from typing import Any

from transforms.model.nodes import MISSING


def length(value: Any) -> Any:
    """Of text, a list or an object; missing otherwise."""
    return len(value) if isinstance(value, str | list | dict) else MISSING


def lowercase(value: Any) -> Any:
    """Text in lower case; what is not text as it is."""
    return value.lower() if type(value) is str else value


LONGEST_WORDS = 200
"""Characters of the longest text that has words; no name of an event is longer."""

_SEPARATORS = re.compile(r"[\s_-]+")


@lru_cache(4096)
def _words(text: str) -> str:
    return _SEPARATORS.sub("", text).casefold()


def words(value: Any) -> Any:
    """Return the words of a text, in which case, blanks, `_` and `-` do not matter; other values as they are."""
    if type(value) is not str:
        return value
    return _words(value) if len(value) <= LONGEST_WORDS else ""


def equal(left: Any, right: Any) -> bool:
    """Deep equality of JSON values in which true is not 1; no recursion, so that depth is no matter."""
    pairs = [(left, right)]
    while pairs:
        left, right = pairs.pop()
        if type(left) is dict and type(right) is dict:
            if left.keys() != right.keys():
                return False
            pairs.extend((left[key], right[key]) for key in left)
        elif type(left) is list and type(right) is list:
            if len(left) != len(right):
                return False
            pairs.extend(zip(left, right, strict=True))
        elif isinstance(left, bool | dict | list) or isinstance(right, bool | dict | list):
            if left is not right:
                return False
        elif left != right:
            return False
    return True


def less(left: Any, right: Any) -> bool:
    """Of two numbers or two texts; false of anything else."""
    if type(left) is str and type(right) is str:
        return left < right
    numbers = (int, float)
    return type(left) in numbers and type(right) in numbers and bool(left < right)
