"""Convert values to text, and text to values."""

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import orjson

from transforms.model.values import MISSING
from transforms.runtime.access import read_dotted
from transforms.syntax import regular_expressions
from transforms.syntax.templates import PLACEHOLDER

MAX_SHORT_CHARACTERS = 8
"""Length of texts whose matches are kept: currencies and country codes, which repeat, but no email addresses."""


def text(value: Any) -> str:
    """Return the text of a value as JavaScript's String() and Segment's templates do; '' for null and missing."""
    if type(value) is str:
        return value
    if value is None or value is MISSING:
        return ""
    if value is True or value is False:
        return "true" if value else "false"
    if type(value) is dict:
        return "[object Object]"
    if type(value) is list:
        return _list_text(value, {})
    return _number_text(value)


def _list_text(values: list[Any], known: dict[int, str]) -> str:
    """Join items by commas, including the items of nested lists.

    `known` has the texts of lists by `id()`, so that a list within several others is joined once. Uses no recursion, so
    depth is not limited.
    """
    stack = [values]
    while stack:
        inner = [each for each in stack[-1] if type(each) is list and id(each) not in known]
        if inner and id(stack[-1]) not in known:
            stack.extend(inner)
            continue
        top = stack.pop()
        if id(top) not in known:
            known[id(top)] = ",".join([known[id(each)] if type(each) is list else text(each) for each in top])
    return known[id(values)]


def _number_text(value: float) -> str:
    if isinstance(value, int):
        try:
            return str(value) if abs(value) < 10**21 else _number_text(float(value))
        except OverflowError:
            return "Infinity" if value > 0 else "-Infinity"
    if value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    digits = repr(value)
    mantissa, _, exponent = digits.partition("e")
    if not exponent:
        return digits
    power = int(exponent)
    if -7 < power < 0:
        negative, digits = mantissa.startswith("-"), mantissa.lstrip("-").replace(".", "")
        return f"{'-' if negative else ''}0.{'0' * (-power - 1)}{digits}"
    return f"{mantissa.removesuffix('.0')}e{'+' if power > 0 else '-'}{abs(power)}"


def render(event: Any, template: Any) -> Any:
    """Fill a template that comes from the event itself."""
    if type(template) is not str:
        return MISSING
    return PLACEHOLDER.sub(lambda match: text(read_dotted(event, (match[1] or match[2]).strip())), template)


def replace(value: Any, pattern: str, replacement: str, count: int) -> str:
    """Replace a string in a text; numbers and booleans count as text, other values give ''."""
    return _replaceable(value).replace(pattern, replacement, count)


def replace_any_case(value: Any, pattern: "re.Pattern[str]", replacement: str, count: int) -> str:
    """Replace a string regardless of case; count 0 means all."""
    return pattern.sub(lambda _: replacement, _replaceable(value), count)


def _replaceable(value: Any) -> str:
    return text(value) if isinstance(value, str | int | float) else ""


def encode_json(value: Any) -> Any:
    """Return compact JSON text; MISSING if the value cannot be encoded."""
    if value is MISSING:
        return MISSING
    try:
        return orjson.dumps(value).decode()
    except (TypeError, ValueError):
        pass
    try:  # orjson rejects large integers, depth over 254 and lone surrogates
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    except (ValueError, RecursionError):
        return MISSING


def decode_json(value: Any) -> Any:
    """Return the value of JSON text; other values are returned unchanged."""
    if type(value) is not str:
        return value
    try:
        return orjson.loads(value)
    except ValueError:
        return value


def join(values: Any, separator: str) -> Any:
    """Join items to one text, without null and missing ones."""
    if type(values) is not list:
        return values if values is MISSING or values is None else text(values)
    known: dict[int, str] = {}
    return separator.join(
        [_list_text(value, known) if type(value) is list else text(value) for value in values if value is not None]
    )


def split(value: Any, separator: str) -> Any:
    """Split a text; MISSING for other values."""
    return value.split(separator) if type(value) is str else MISSING


def glob(value: Any, pieces: Sequence[str]) -> bool:
    """Return whether a text consists of these pieces in order, with anything between them, in linear time."""
    if type(value) is not str or not value.startswith(pieces[0]):
        return False
    start = len(pieces[0])
    end = len(value) - len(pieces[-1])
    if end < start or not value.endswith(pieces[-1]):
        return False
    for piece in pieces[1:-1]:
        start = value.find(piece, start, end)
        if start < 0:
            return False
        start += len(piece)
    return True


def match_group(value: Any, pattern: Any, group: int) -> Any:
    """Return the text that a group of a regular expression matched; MISSING if it did not match."""
    if type(value) is not str:
        return MISSING
    return (_match_short if len(value) <= MAX_SHORT_CHARACTERS else _match)(value, pattern, group)


def _match(value: str, pattern: Any, group: int) -> Any:
    match = regular_expressions.search(pattern, value)
    if match is None or match[group] is None:
        return MISSING
    return match[group]


_match_short = lru_cache(1024)(_match)


def search(value: Any, pattern: Any) -> bool:
    """Return whether a regular expression matches anywhere in a text."""
    return type(value) is str and regular_expressions.search(pattern, value) is not None
