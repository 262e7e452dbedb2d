"""Casts: a value that cannot be cast is missing."""

import math
import re
from typing import Any

from transforms.model.values import MISSING, fits_json
from transforms.runtime.numbers import fitting, leave_out
from transforms.runtime.text import text

_NUMBER = re.compile(r"\s*[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?\s*", re.ASCII)
_WHOLE = re.compile(r"\s*[-+]?[0-9]+\s*", re.ASCII)
_MAX_CHARACTERS = 400
_MAX_PRICE_CHARACTERS = 17
"""Length from which on a number may not fit; shorter ones without a sign need no regular expression."""
_BOOLEANS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


def number(value: Any) -> Any:
    """Cast a number, or text that is a number and nothing else, to a number."""
    if type(value) is str:
        if len(value) > _MAX_CHARACTERS:
            return MISSING
        if len(value) < _MAX_PRICE_CHARACTERS and value.isascii() and value.replace(".", "", 1).isdigit():
            return float(value) if "." in value else int(value)
        if _WHOLE.fullmatch(value) and fits_json(whole := int(value)):
            return whole
        return fitting(float(value), "@number") if _NUMBER.fullmatch(value) else MISSING
    return value if type(value) is int or type(value) is float else MISSING


def integer(value: Any) -> Any:
    """Cast to a whole number; a fraction is cut off."""
    if type(value) is str and len(value) <= _MAX_CHARACTERS and _WHOLE.fullmatch(value):
        return fitting(int(value), "@integer")
    cast = number(value)
    if type(cast) is float:
        return fitting(int(cast), "@integer") if math.isfinite(cast) else leave_out("@integer")
    return cast


def string(value: Any) -> Any:
    """Cast text, a number or a boolean to text."""
    return text(value) if isinstance(value, str | int | float) else MISSING


def boolean(value: Any) -> Any:
    """Cast true, false, 1, 0, and in any case `true`, `yes`, `on`, `1` and their opposites to true or false."""
    if type(value) is bool:
        return value
    if type(value) is str and len(value) < 20:
        return _BOOLEANS.get(value.strip().lower(), MISSING)
    return bool(value) if type(value) in {int, float} and value in {0, 1} else MISSING
