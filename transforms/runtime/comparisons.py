"""Comparisons in conditions, and those in JSONPath filters (RFC 9535, 2.3.5.2.2)."""

from typing import Any

from transforms.model.values import MISSING


def length(value: Any) -> Any:
    """Return the length of a text, list or object; MISSING for other values."""
    return len(value) if isinstance(value, str | list | dict) else MISSING


def lowercase(value: Any) -> Any:
    """Return a text in lower case, and any other value unchanged."""
    return value.lower() if type(value) is str else value


def equal(left: Any, right: Any) -> bool:
    """Compare JSON values deeply; true does not equal 1. Uses no recursion, so depth is not limited."""
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
    """Return whether one number or text comes before another; False for other values."""
    if type(left) is str and type(right) is str:
        return left < right
    numbers = (int, float)
    return type(left) in numbers and type(right) in numbers and bool(left < right)
