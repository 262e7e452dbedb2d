"""Reading an event: the steps of a path that are more than one line of code."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from transforms.documents import RuleError
from transforms.model.nodes import Index, Key
from transforms.model.values import MISSING
from transforms.syntax.paths import parse_loose_path


class _Falsy:
    """Members of null, false, 0 and '': whatever the name, the value itself, as in Segment's kit."""

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
    """Members of a list: its items, by names that are numbers (`products.0.price`)."""

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
    """Say whether a name is that of an item, which has no leading zeros."""
    return name.isdecimal() and name.isascii() and len(name) < 10 and (name[0] != "0" or name == "0")


_NOTHING: Mapping[str, Any] = {}
_NULL = _Falsy(None)


def members(value: Any) -> Any:
    """Something to read from as from an object, for a value that is none, so that reading on needs no test."""
    if value is None:
        return _NULL
    if type(value) is dict:
        return value
    if type(value) is list:
        return _ListItems(value)
    return _NOTHING if value or value is MISSING else _Falsy(value)


def at(value: Any, index: int) -> Any:
    """The item of a list; what is falsy stays what it is."""
    if type(value) is list:
        return value[index] if -len(value) <= index < len(value) else MISSING
    return MISSING if value or type(value) is dict else value


def child(value: Any, name: str) -> Any:
    """The member of an object, in a filter."""
    return value.get(name, MISSING) if type(value) is dict else MISSING


def item(value: Any, index: int) -> Any:
    """The item of a list, in a filter."""
    return value[index] if type(value) is list and -len(value) <= index < len(value) else MISSING


def children(value: Any) -> Iterable[Any]:
    """All members of an object or items of a list."""
    if type(value) is list:
        return value
    return value.values() if type(value) is dict else ()


def descendants(value: Any) -> Iterable[Any]:
    """The value and all below it, parents first; no recursion, so that depth is no matter."""
    stack = [value]
    while stack:
        value = stack.pop()
        yield value
        if type(value) is list:
            stack.extend(reversed(value))
        elif type(value) is dict:
            stack.extend(reversed(value.values()))


def pick(value: Any, keys: Sequence[Any]) -> Iterable[Any]:
    """Several members of an object, or items of a list, in the order asked for."""
    if type(value) is dict:
        return [value[key] for key in keys if key in value]
    if type(value) is list:
        return [value[key] for key in keys if type(key) is int and -len(value) <= key < len(value)]
    return ()


def cut(value: Any, start: int | None, stop: int | None, step: int | None) -> Sequence[Any]:
    """A slice of a list."""
    return value[start:stop:step] if type(value) is list and step != 0 else ()


def found(value: Any) -> Sequence[Any]:
    """The value as a match, or none."""
    return () if value is MISSING else (value,)


def path_length(value: Any) -> Any:
    """JSONPath's `len`: of text, a list or an object."""
    return len(value) if isinstance(value, str | list | dict) else MISSING


def path_keys(value: Any) -> Any:
    """JSONPath's `keys`."""
    return list(value) if type(value) is dict else MISSING


def path_split(value: Any, separator: str, segment: str, maximum: int) -> Any:
    """JSONPath's `split(separator, segment, maximum)`."""
    if type(value) is not str:
        return MISSING
    parts = value.split(separator, maximum)
    return parts if segment == "*" else item(parts, int(segment))


def read_dotted(event: Any, path: Any) -> Any:
    """Read a path that is only known once the event is; MISSING if it is not one of names and indexes."""
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
