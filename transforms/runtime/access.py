"""Read an event: the segments of a path that need more than one line of code."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from transforms.documents import RuleError
from transforms.model.nodes import Index, Key
from transforms.model.values import MISSING
from transforms.syntax.paths import parse_loose_path


class _Falsy:
    """The members of a falsy value (null, false, 0, ''): every name returns the value itself, as in Segment's kit."""

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = value

    def __contains__(self, _name: str) -> bool:
        return True

    def __getitem__(self, _name: str) -> Any:
        return self._value

    def get(self, _name: str, _default: Any = None) -> Any:
        return self._value


class _ListItems:
    """The members of a list: its items, by number (`products.0.price`)."""

    __slots__ = ("_items",)

    def __init__(self, items: Sequence[Any]) -> None:
        self._items = items

    def __contains__(self, name: str) -> bool:
        return _is_index(name) and int(name) < len(self._items)

    def __getitem__(self, name: str) -> Any:
        return self._items[int(name)]

    def get(self, name: str, default: Any = None) -> Any:
        return self._items[int(name)] if name in self else default


def _is_index(name: str) -> bool:
    """Return whether a name is the number of an item, without leading zeros."""
    return name.isdecimal() and name.isascii() and len(name) < 10 and (name[0] != "0" or name == "0")


NOTHING: Mapping[str, Any] = {}
"""The members of a missing value, or of one that has none."""

_NULL = _Falsy(None)


def members(value: Any) -> Any:
    """Return an object to read members from, whatever the value is, so that further reads need no test."""
    if value is None:
        return _NULL
    if type(value) is dict:
        return value
    if type(value) is list:
        return _ListItems(value)
    return NOTHING if value or value is MISSING else _Falsy(value)


def at(value: Any, index: int) -> Any:
    """Return the item of a list; a falsy value is returned unchanged."""
    if type(value) is list:
        return value[index] if -len(value) <= index < len(value) else MISSING
    return MISSING if value or type(value) is dict else value


def child(value: Any, name: str) -> Any:
    """Return the member of an object, in a filter."""
    return value.get(name, MISSING) if type(value) is dict else MISSING


def item(value: Any, index: int) -> Any:
    """Return the item of a list, in a filter."""
    return value[index] if type(value) is list and -len(value) <= index < len(value) else MISSING


def children(value: Any) -> Iterable[Any]:
    """Return all members of an object or items of a list."""
    if type(value) is list:
        return value
    return value.values() if type(value) is dict else ()


def descendants(value: Any) -> Iterable[Any]:
    """Yield the value and all values below it, parents first. Uses no recursion, so depth is not limited."""
    stack = [value]
    while stack:
        value = stack.pop()
        yield value
        if type(value) is list:
            stack.extend(reversed(value))
        elif type(value) is dict:
            stack.extend(reversed(value.values()))


def pick(value: Any, keys: Sequence[Any]) -> Iterable[Any]:
    """Return several members of an object or items of a list, in the order of the keys."""
    if type(value) is dict:
        return [value[key] for key in keys if key in value]
    if type(value) is list:
        return [value[key] for key in keys if type(key) is int and -len(value) <= key < len(value)]
    return ()


def cut(value: Any, start: int | None, stop: int | None, step: int | None) -> Sequence[Any]:
    """Return a slice of a list."""
    return value[start:stop:step] if type(value) is list and step != 0 else ()


def found(value: Any) -> Sequence[Any]:
    """Return the value as the only match; no match if it is missing."""
    return () if value is MISSING else (value,)


def path_length(value: Any) -> Any:
    """Return JSONPath's `len` of a text, list or object."""
    return len(value) if isinstance(value, str | list | dict) else MISSING


def path_keys(value: Any) -> Any:
    """Return JSONPath's `keys` of an object."""
    return list(value) if type(value) is dict else MISSING


def path_split(value: Any, separator: str, segment: str, maximum: int) -> Any:
    """Return JSONPath's `split(separator, segment, maximum)` of a text."""
    if type(value) is not str:
        return MISSING
    parts = value.split(separator, maximum)
    return parts if segment == "*" else item(parts, int(segment))


def read_dotted(event: Any, path: Any) -> Any:
    """Read a path that comes from the event itself; MISSING if it has more than names and indexes."""
    if type(path) is not str:
        return MISSING
    try:
        segments = parse_loose_path(path).segments
    except RuleError:
        return MISSING
    value = event
    for segment in segments:
        if isinstance(segment, Key):
            value = members(value).get(segment.name, MISSING)
        elif isinstance(segment, Index):
            value = at(value, segment.index)
        else:
            return MISSING
    return value
