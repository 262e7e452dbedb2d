"""Casts: what cannot be cast is missing."""

import math
import re
from typing import Any

from transforms.runtime.text import text
from transforms.tree import MISSING

_NUMBER = re.compile(r"\s*[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?\s*", re.ASCII)
_WHOLE = re.compile(r"\s*[-+]?[0-9]{1,18}\s*", re.ASCII)
_BOOLEANS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


def number(value: Any) -> Any:
    """A number of a number, or of text that is one and nothing else."""
    if type(value) is str:
        if _WHOLE.fullmatch(value):
            return int(value)
        if len(value) < 400 and _NUMBER.fullmatch(value):
            cast = float(value)
            return cast if math.isfinite(cast) else MISSING
        return MISSING
    return value if type(value) is int or type(value) is float else MISSING


def integer(value: Any) -> Any:
    """A whole number; a fraction is cut off."""
    cast = number(value)
    return int(cast) if type(cast) is float else cast


def string(value: Any) -> Any:
    """Text of text, a number or a boolean."""
    return text(value) if isinstance(value, str | int | float) else MISSING


def boolean(value: Any) -> Any:
    """True or false of itself, of 1 and 0, and of `true`, `yes`, `on`, `1` and their opposites in any case."""
    if type(value) is bool:
        return value
    if type(value) is str and len(value) < 20:
        return _BOOLEANS.get(value.strip().lower(), MISSING)
    return bool(value) if type(value) in {int, float} and value in {0, 1} else MISSING
