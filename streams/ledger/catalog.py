"""Collect the names and types of events and properties from a sample of events; never a value.

Names come from clients, so everything is bounded, and parts of names that look like IDs or addresses are replaced.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from streams.parsing.lenient_json import read_object
from streams.records.run_header import Kind

PARTS = ("properties", "traits", "context")
"""The parts of an event that are looked at."""

MAX_VISITED = 500
"""Properties of one event that are looked at; a hostile event may have many more."""

MAX_EVENT_BYTES = 256 * 1024
MAX_DEPTH = 3
MAX_ITEMS = 3
"""Elements of a list that are looked at."""

MAX_KINDS = 1000
MAX_PROPERTIES = 300
"""Properties of a kind of event that are kept apart."""

MAX_ROWS = 50_000
MAX_NAME_CHARACTERS = 64
OTHER = "(other)"
"""The name of events, and of properties, beyond these bounds."""

ID = "(id)"
WHOLE_EVENT = ""
"""The property that stands for the event itself: its number is that of the sampled events."""

_ID_DIGITS = 8
_MIXED = re.compile(r"(?:[0-9][A-Za-z]|[A-Za-z][0-9])")
_MAX_MIXED = 4
_DIGITS = re.compile(r"\d{2,}")
_NAMES_OF_TYPES: Mapping[type, str] = {
    str: "string",
    bool: "boolean",
    int: "number",
    float: "number",
    type(None): "null",
    dict: "object",
    list: "array",
}


class EventSample(NamedTuple):
    """Names and types of one event: pairs of a property's path and type, and the event's time in seconds since 1970."""

    kind: Kind
    properties: tuple[tuple[str, str], ...]
    second: int


class CatalogRow(NamedTuple):
    """How often a property had a type in the sample, and when it was seen first and last, in seconds since 1970."""

    kind: Kind
    property: str
    type: str
    number: int
    first: int
    last: int


def sample_of(value: bytes | None, source: str, second: int) -> EventSample | None:
    """Return the names and types of an event; None if the event is invalid."""
    if not value or len(value) > MAX_EVENT_BYTES:
        return None
    event = read_object(value)
    if event is None or type(event.get("type")) is not str:
        return None
    name = event.get("event")
    kind = Kind(safe_name(source), safe_name(event["type"]), safe_name(name) if type(name) is str and name else None)
    found = dict.fromkeys(
        (path, _NAMES_OF_TYPES[type(value)])
        for part in PARTS
        if isinstance(event.get(part), dict)
        for path, value in walk_properties(event[part], f"{part}.")
    )
    return EventSample(kind, (*found,), second)


def walk_properties(data: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield paths and values, level by level, so that one huge object does not crowd out the rest."""
    level: list[tuple[str, Any]] = [(prefix, data)]
    left = MAX_VISITED
    for depth in range(MAX_DEPTH):
        deeper: list[tuple[str, Any]] = []
        for place, part in level:
            for name, value in part.items():
                if not left:
                    return
                left -= 1
                path = place + safe_name(name)
                yield path, value
                if depth + 1 < MAX_DEPTH:
                    inner = value[:MAX_ITEMS] if isinstance(value, list) else [value]
                    mark = "[]." if isinstance(value, list) else "."
                    deeper += [(path + mark, each) for each in inner if isinstance(each, dict)]
        level = deeper


def safe_name(name: str) -> str:
    """Replace parts of a name that look like IDs or addresses: `user_4711` becomes `user_#`."""
    if (
        len(name) > MAX_NAME_CHARACTERS
        or "@" in name
        or not name.isprintable()
        or sum(map(str.isdigit, name)) >= _ID_DIGITS
        or len(_MIXED.findall(name)) >= _MAX_MIXED
    ):
        return ID
    return _DIGITS.sub("#", name)


class CatalogBounds:
    """Limits which kinds and properties get their own row. Keeps the known ones in memory."""

    def __init__(self, known: Iterable[tuple[Kind, str]]) -> None:
        self._properties: dict[Kind, set[str]] = {}
        self._rows = 0
        for kind, name in known:
            self._properties.setdefault(kind, set()).add(name)
            self._rows += 1

    def sums(self, samples: Iterable[EventSample]) -> list[CatalogRow]:
        """Return the sums of samples, one row per kind, property and type."""
        found: dict[tuple[Kind, str, str], tuple[int, int, int]] = {}
        for sample in samples:
            kind = self._kind(sample.kind)
            pairs = [(WHOLE_EVENT, "object"), *sample.properties]
            for name, type_ in dict.fromkeys((self._property(kind, name), type_) for name, type_ in pairs):
                key = kind, name, type_
                count, first, last = found.get(key, (0, sample.second, sample.second))
                found[key] = count + 1, min(first, sample.second), max(last, sample.second)
        return [CatalogRow(*key, *numbers) for key, numbers in found.items()]

    def _kind(self, kind: Kind) -> Kind:
        if kind not in self._properties and len(self._properties) >= MAX_KINDS:
            kind = Kind(OTHER, OTHER, OTHER)
        self._properties.setdefault(kind, set())
        return kind

    def _property(self, kind: Kind, name: str) -> str:
        known = self._properties[kind]
        if name not in known:
            if name != WHOLE_EVENT and (len(known) >= MAX_PROPERTIES or self._rows >= MAX_ROWS):
                name = OTHER
            if name not in known:
                known.add(name)
                self._rows += 1
        return name
