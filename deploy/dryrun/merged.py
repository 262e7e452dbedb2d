"""Merge an integration's file with its preset into one file, with the origin of each line."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from deploy.config.diagnostics import Place as Keys
from deploy.config.integrations import Integration
from deploy.config.yaml_edit import on_one_line
from transforms.documents import Document, Location
from transforms.model.nodes import Call, ListNode, Node, ObjectNode
from transforms.rules import Rule

_RULES = ("match", "map", "rules", "otherwise", "preset", "tests")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of YAML, and the file and line that it comes from."""

    text: str
    path: str
    line: int


def merge(integration: Integration) -> list[Line]:
    """Return the file with the preset's rules after its own, and the common map merged into each rule."""
    return list(_file(integration))


def _file(integration: Integration) -> Iterator[Line]:
    document, rules = integration.document, integration.rules
    for key in document.data:
        if key not in _RULES:
            yield from _entry(key, _part(document, (key,)), 0)
    if rules.match_all and "match" in document.data:
        yield from _entry("match", _part(document, ("match",)), 0)
    if rules.rules:
        yield Line("rules:", document.path, document.where_key("rules")[0])
    for rule in rules.rules:
        yield from _rule(rule)
    if rules.otherwise and rules.otherwise.shape:
        yield from _entry("otherwise", _part_of_node(rules.otherwise.shape), 0)
    elif "otherwise" in document.data:
        yield from _entry("otherwise", _part(document, ("otherwise",)), 0)


def _rule(rule: Rule) -> Iterator[Line]:
    document = rule.place.document
    assert document is not None
    data = _at(document.data, rule.place.keys)
    name = _MergedPart(rule.name, rule.place.at("name") if "name" in data else rule.place)
    parts = {"name": name, **{key: _part(document, (*rule.place.keys, key)) for key in ("when", "drop") if key in data}}
    if rule.shape is not None:
        parts["map"] = _part_of_node(rule.shape)
    yield from _item(_MergedPart(parts, rule.place), 2)


@dataclass(frozen=True, slots=True)
class _MergedPart:
    """A scalar, or an object or list of parts, with its origin."""

    value: Any
    place: Location

    @property
    def origin(self) -> tuple[str, int]:
        return self.place.path or "", self.place.line or 0

    @property
    def inner(self) -> Iterator["_MergedPart"]:
        if isinstance(self.value, dict | list):
            yield from self.value.values() if isinstance(self.value, dict) else self.value

    @property
    def origins(self) -> set[tuple[str, int]]:
        return {self.origin}.union(*(each.origins for each in self.inner))

    @property
    def data(self) -> Any:
        if isinstance(self.value, dict):
            return {key: each.data for key, each in self.value.items()}
        return [each.data for each in self.value] if isinstance(self.value, list) else self.value

    @property
    def flat(self) -> bool:
        """Return whether the part is on one line in its file, or empty."""
        return not any(True for _ in self.inner) or len(set().union(*(each.origins for each in self.inner))) == 1


def _part(document: Document, keys: Keys) -> _MergedPart:
    """Return the part of a file at these keys."""
    data, place = _at(document.data, keys), Location(document, keys)
    if isinstance(data, dict):
        return _MergedPart({key: _part(document, (*keys, key)) for key in data}, place)
    if isinstance(data, list):
        return _MergedPart([_part(document, (*keys, index)) for index in range(len(data))], place)
    return _MergedPart(data, place)


def _part_of_node(node: Node) -> _MergedPart:
    """Return the part for a node, whose entries may come from several files."""
    place = node.place
    assert place.document is not None
    match node:
        case ObjectNode(entries=entries):
            return _MergedPart({key: _part_of_node(each) for key, each in entries.items()}, place)
        case ListNode(items=items):
            return _MergedPart([_part_of_node(each) for each in items], place)
        case Call(directive=directive, arguments=arguments) if directive.merges and _is_merged(node):
            objects = _MergedPart([_part_of_node(each) for each in arguments[directive.merges]], place)
            return _MergedPart({directive.name: _MergedPart({directive.merges: objects}, place)}, place)
        case Call(directive=directive):
            return _MergedPart({directive.name: _part(place.document, place.keys)}, place)
    return _part(place.document, place.keys)


def _is_merged(node: Call) -> bool:
    """Return whether the call is not in a file but the result of merging two maps, one of which is a directive."""
    objects = node.arguments.get(node.directive.merges) if node.directive.merges else None
    return isinstance(objects, tuple) and len(objects) == 2 and objects[1].place == node.place


def _entry(key: str, part: _MergedPart, indent: int) -> Iterator[Line]:
    start = f"{' ' * indent}{on_one_line(key)}:"
    if part.flat:
        yield Line(f"{start} {on_one_line(part.data)}", *_first(part))
        return
    document = part.place.document
    assert document is not None
    yield Line(start, part.place.path or "", document.where_key(*part.place.keys)[0])
    yield from _block(part, indent + 2)


def _block(part: _MergedPart, indent: int) -> Iterator[Line]:
    if isinstance(part.value, dict):
        for key, each in part.value.items():
            yield from _entry(key, each, indent)
    else:
        for each in part.inner:
            yield from _item(each, indent)


def _item(part: _MergedPart, indent: int) -> Iterator[Line]:
    if part.flat:
        yield Line(f"{' ' * indent}- {on_one_line(part.data)}", *_first(part))
        return
    first, *others = _block(part, indent + 2)
    yield Line(f"{' ' * indent}- {first.text.lstrip()}", first.path, first.line)
    yield from others


def _first(part: _MergedPart) -> tuple[str, int]:
    inner = next(part.inner, None)
    return _first(inner) if inner else part.origin


def _at(data: Any, keys: Keys) -> Any:
    for key in keys:
        data = data[key]
    return data
