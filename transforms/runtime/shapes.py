"""Work on whole objects and lists."""

from collections.abc import Sequence
from typing import Any

from transforms.model.values import MISSING
from transforms.runtime.casts import number
from transforms.runtime.numbers import fitting, leave_out
from transforms.runtime.text import encode_json, text


def flatten(value: Any, separator: str, omit_arrays: bool) -> dict[str, Any]:
    """Flatten nested values to one object with joined keys; a value that is not an object or list gets the key ''."""
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
    """Merge objects, later ones over earlier ones; ignore values that are not objects."""
    merged: dict[str, Any] = {}
    for each in objects:
        if type(each) is dict:
            merged.update(each)
    return merged


def without_nulls(value: Any) -> Any:
    """Return the value without keys that are null, in nested objects but not in lists; MISSING if it is null."""
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
    """Return whether a value is missing, null, '', 0, false, or a list whose text is empty."""
    return value is MISSING or not (text(value) if type(value) is list else value or type(value) is dict)


def lookup(table: dict[str, Any], key: Any, default: Any) -> Any:
    """Return the table's value for a key; numbers and booleans are looked up as text."""
    return table.get(text(key), default) if isinstance(key, str | int | float) else default


def as_list(value: Any) -> Sequence[Any]:
    """Return the items of a list; a single value counts as a list of one, null and missing as an empty list."""
    if type(value) is list:
        return value
    return () if value is None or value is MISSING else (value,)


def total(value: Any) -> Any:
    """Return the sum of a list's numbers, including numbers in text; MISSING if it has no numbers."""
    numbers = [each for each in map(number, as_list(value)) if each is not MISSING]
    try:
        return fitting(sum(numbers), "@sum") if numbers else MISSING
    except OverflowError:  # an integer too large to add to a float
        return leave_out("@sum")


def count(value: Any) -> Any:
    """Return the number of items of a list or keys of an object; 0 for null, MISSING for other values."""
    if type(value) is list or type(value) is dict:
        return len(value)
    return 0 if value is None else MISSING


def unique(value: Any) -> Any:
    """Return a list without duplicates, in order; 1, true and "1" are different."""
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
