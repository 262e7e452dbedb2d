"""Objects and lists as wholes."""

from collections.abc import Sequence
from typing import Any

from transforms.model.values import MISSING
from transforms.runtime.casts import number
from transforms.runtime.numbers import fitting, leave_out
from transforms.runtime.text import encode_json, text


def flatten(value: Any, separator: str, omit_arrays: bool) -> dict[str, Any]:
    """One object of all that is nested, its keys joined; what is no object or list is under ''."""
    flat: dict[str, Any] = {}
    stack: list[tuple[str, Any]] = [("", value)]
    while stack:
        prefix, inner = stack.pop()
        if type(inner) is dict:
            pairs = [(f"{prefix}{separator}{key}" if prefix else key, inner[key]) for key in inner]
            stack.extend(reversed(pairs))
        elif type(inner) is list and not omit_arrays:
            items = [(f"{prefix}{separator}{index}" if prefix else str(index), x) for index, x in enumerate(inner)]
            stack.extend(reversed(items))
        elif inner is not MISSING:
            flat[prefix] = inner
    return flat


def merge(*objects: Any) -> dict[str, Any]:
    """The objects' keys in one, later ones over earlier; what is no object adds nothing."""
    merged: dict[str, Any] = {}
    for each in objects:
        if type(each) is dict:
            merged.update(each)
    return merged


def without_nulls(value: Any) -> Any:
    """The value without keys that hold null, at any depth of objects, not in lists; missing if it is null itself."""
    if value is None:
        return MISSING
    if type(value) is not dict:
        return value
    clean: dict[str, Any] = {}
    stack: list[tuple[dict[str, Any], dict[str, Any]]] = [(value, clean)]
    while stack:
        source, target = stack.pop()
        for key, inner in source.items():
            if type(inner) is dict:
                target[key] = {}
                stack.append((inner, target[key]))
            elif inner is not None:
                target[key] = inner
    return clean


def blank(value: Any) -> bool:
    """Missing, null, '', 0, false, and a list whose text is empty."""
    return value is MISSING or not (text(value) if type(value) is list else value or type(value) is dict)


def lookup(table: dict[str, Any], key: Any, default: Any) -> Any:
    """The table's value for a key; numbers and booleans are looked up as text."""
    return table.get(text(key), default) if isinstance(key, str | int | float) else default


def as_list(value: Any) -> Sequence[Any]:
    """The items of a list; a single value counts as a list of one, null and missing as none."""
    if type(value) is list:
        return value
    return () if value is None or value is MISSING else (value,)


def total(value: Any) -> Any:
    """The sum of a list's numbers, also those in text; missing if there are none."""
    numbers = [each for each in map(number, as_list(value)) if each is not MISSING]
    try:
        return fitting(sum(numbers), "@sum") if numbers else MISSING
    except OverflowError:  # an integer too large to add to a float
        return leave_out("@sum")


def count(value: Any) -> Any:
    """How many items a list or keys an object has; 0 for null, missing otherwise."""
    if type(value) is list or type(value) is dict:
        return len(value)
    return 0 if value is None else MISSING


def unique(value: Any) -> Any:
    """A list without repeats, in order; 1, true and "1" are not the same."""
    if type(value) is not list:
        return value
    seen: set[Any] = set()
    kept = []
    for each in value:
        key = _identity(each)
        if key not in seen:
            seen.add(key)
            kept.append(each)
    return kept


def _identity(value: Any) -> Any:
    if type(value) is dict or type(value) is list:
        return dict, encode_json(value)
    return bool if type(value) is bool else None, value
