"""Parse plain data to nodes: strings to paths and templates, objects to object nodes and directives."""

import pathlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

from transforms.documents import Document, Location, RuleError
from transforms.model.directive import Directive
from transforms.model.nodes import (
    Call,
    Condition,
    Constant,
    JsonPath,
    ListNode,
    Node,
    ObjectNode,
    PathNode,
    Remove,
    Template,
)
from transforms.model.values import MISSING, Missing, fits_json
from transforms.syntax.conditions import parse_condition
from transforms.syntax.paths import parse_loose_path, parse_path
from transforms.syntax.templates import split_template

T = TypeVar("T")

MAX_DEPTH = 32
MAX_NODES = 50_000

_NOT_TAKEN_OVER = {
    "@liquid": "use @template, @case, @replace, @if or @default",
}
_METADATA = "_metadata"
_NEARLY_A_PATH = re.compile(r"\s*\$\s*(?:[.\[]|$)")


class Parser:
    """Parses mappings.

    Args:
        errors: Receives the errors that leave the rest readable, so that all are reported at once.
        directives: The directives of the language, by name.
    """

    def __init__(self, errors: list[RuleError], directives: Mapping[str, Directive]) -> None:
        self.errors = errors
        self._directives = directives
        self._depth = 0
        self._nodes = 0

    def value(self, data: Any, place: Location, *, literal: bool = False) -> Node:
        """Parse any data; with `literal`, strings are plain text. Raises RuleError."""
        self._nodes += 1
        if self._nodes == MAX_NODES + 1:
            raise place.error(f"the rules have more than {MAX_NODES:,} values", "split them")
        if self._nodes > MAX_NODES:
            return Constant(place, MISSING)
        if self._depth >= MAX_DEPTH:
            raise place.error(f"the mapping is nested more than {MAX_DEPTH} levels deep", "flatten it")
        self._depth += 1
        try:
            if isinstance(data, dict):
                return self._object(data, place, literal=literal)
            if isinstance(data, list):
                items = (self._child(item, place.at(i), literal=literal) for i, item in enumerate(data))
                return ListNode(place, tuple(items))
            if isinstance(data, str):
                return Constant(place, data) if literal else self._string(data, place)
            if data is None or data is MISSING or isinstance(data, bool):
                return Constant(place, data)
            if isinstance(data, int | float):
                if not fits_json(data):
                    raise place.error("this number is out of range", "quote it if it is text")
                return Constant(place, data)
        finally:
            self._depth -= 1
        raise place.error(f"this is {self.type_of(data)}, which JSON does not have")

    def path(self, text: str, place: Location) -> PathNode:
        """Parse a path, also in Segment's dotted form."""
        return PathNode(place, self._at_place(parse_loose_path, text, place))

    def template(self, text: str, place: Location) -> Node:
        """Parse a text with `{{path}}` or `{{{path}}}` in it."""
        parts: list[str | JsonPath] = []
        for before, path, offset in split_template(text):
            parts.append(before)
            if path == "":
                raise place.error("a placeholder without a path", "write {{properties.name}}", offset=offset)
            if path is not None:
                parts.append(self._at_place(parse_loose_path, path, place, offset=offset))
        kept = tuple(part for part in parts if part != "")
        return Template(place, kept) if any(isinstance(part, JsonPath) for part in kept) else Constant(place, text)

    def condition(self, data: Any, place: Location) -> Condition:
        """Parse a condition."""
        text = self.typed(data, place, str, "a condition")
        return parse_condition(text, lambda message, hint, offset: place.error(message, hint, offset=offset))

    def table(self, data: Any, place: Location) -> dict[str, Any]:
        """Read a table of constants: an object, or the name of a file beside this one."""
        if isinstance(data, str):
            data = self._table_file(data, place)
        table = self.typed(data, place, dict, "a table: an object, or the name of a file beside this one")
        if not all(map(fits_json, _numbers(table))):
            raise place.error("a number in the table is out of range", "quote it if it is text")
        return table

    def _table_file(self, name: str, place: Location) -> Any:
        if place.document is None or pathlib.Path(name).name != name or name.startswith("."):
            raise place.error(f"{name!r} is not the name of a file beside this one", "a name like countries.yaml")
        try:
            return Document.read(pathlib.Path(place.document.path).parent / name).data
        except RuleError as error:
            raise place.error(f"the table {name!r}: {error.message}", error.hint) from None

    def directive(self, data: Any, place: Location) -> Node:
        """Parse a directive where only a string or a directive is allowed."""
        if not self.is_directive(data):
            raise place.error(f"this is a string or a directive, not {self.type_of(data)}")
        return self.value(data, place)

    def typed(self, data: Any, place: Location, kind: type[T], wanted: str) -> T:
        """Return `data` if it has this type; raises RuleError if not."""
        if not isinstance(data, kind) or (isinstance(data, bool) and kind is not bool):
            raise place.error(f"this is {wanted}, not {self.type_of(data)}")
        return data

    def collect(self, parse: Callable[..., Any], place: Location, *arguments: Any, **options: Any) -> Any:
        """Return the result of `parse`; collect its error and return a missing value if it fails."""
        try:
            return parse(*arguments, **options)
        except RuleError as error:
            self.errors.append(error)
            return Constant(place, MISSING)

    @staticmethod
    def is_directive(data: Any) -> bool:
        """Return whether this is an object with a key that begins with `@`."""
        return isinstance(data, dict) and any(isinstance(key, str) and key.startswith("@") for key in data)

    @staticmethod
    def nearest(name: Any, names: Collection[str] | Mapping[str, Any]) -> str | None:
        """Return a hint with the closest name; None if no name is close."""
        close = get_close_matches(str(name)[:100], list(names), 1, 0.6)
        return f"did you mean {close[0]}?" if close else None

    @staticmethod
    def shown(data: Any) -> str:
        """Return a value shortened for a message."""
        text = repr(data)
        return text if len(text) <= 60 else f"{text[:57]}…"

    @staticmethod
    def type_of(data: Any) -> str:
        """Return the name of the value's JSON type."""
        names = {
            dict: "an object",
            list: "a list",
            str: "a string",
            bool: "true or false",
            type(None): "null",
            Missing: "nothing",
        }
        return names.get(type(data), "a number" if isinstance(data, int | float) else f"a {type(data).__name__}")

    def _child(self, data: Any, place: Location, *, literal: bool) -> Node:
        node: Node = self.collect(self.value, place, data, place, literal=literal)
        return node

    def _string(self, text: str, place: Location) -> Node:
        if text == "$" or text.startswith(("$.", "$[")):
            return PathNode(place, self._at_place(parse_path, text, place))
        if _NEARLY_A_PATH.match(text):
            path = "".join(text.split())
            raise place.error(
                f"{text!r} is neither a path nor plain text", f"write {path}, or {{'@literal': {text!r}}} for the text"
            )
        if "{{" in text:
            return self.template(text, place)
        return Constant(place, text)

    def _object(self, data: dict[Any, Any], place: Location, *, literal: bool) -> Node:
        for key in data:
            if not isinstance(key, str):
                raise place.error(f"the key {self.shown(key)} is not a string", "quote it")
        if self.is_directive(data):
            return self._directive(data, place)
        return ObjectNode(
            place, {key: self._child(value, place.at(key), literal=literal) for key, value in data.items()}
        )

    def _directive(self, data: dict[str, Any], place: Location) -> Node:
        names = [key for key in data if key != _METADATA]
        name = next(key for key in names if key.startswith("@"))
        if len(names) > 1:
            others = ", ".join(key for key in names if key != name)
            raise place.error(
                f"{name} is next to other keys: {others}", "a directive is the only key of its object; nest it"
            )
        inner = place.at(name)
        if name == "@remove":
            if data[name] is not True:
                raise inner.error("@remove takes true")
            return Remove(place)
        if name in _NOT_TAKEN_OVER:
            raise inner.error(f"{name} is not supported", _NOT_TAKEN_OVER[name], key=True)
        directive = self._directives.get(name)
        if directive is None:
            hint = self.nearest(name, self._directives) or 'write {"@literal": …} for a key that begins with @'
            raise inner.error(f"{self.shown(name)} is not a directive", hint, key=True)
        return self._call(directive, data[name], inner)

    def _call(self, directive: Directive, data: Any, place: Location) -> Call:
        """Parse the arguments of a directive."""
        given, places = self._given(directive, data, place)
        for name in given:
            if name not in directive.arguments:
                hint = self.nearest(name, directive.arguments) or f"there are {', '.join(directive.arguments)}"
                raise places[name].error(f"{directive.name} has no {name!r}", hint, key=True)
        parsed: dict[str, Any] = {}
        for name, argument in directive.arguments.items():
            if name in given:
                parsed[name] = self.collect(argument.parse, places[name], self, given[name], places[name])
            elif argument.required:
                raise place.error(f"{directive.name} needs {name!r}", f"add {name}: {argument.kind}", key=True)
        if directive.check and (problem := directive.check(parsed)):
            raise place.error(problem, key=True)
        return Call(place, directive, parsed)

    def _given(self, directive: Directive, data: Any, place: Location) -> tuple[dict[str, Any], dict[str, Location]]:
        """Return the given arguments and their locations by name, also if they are given without names."""
        short = directive.short
        has_names = isinstance(data, dict) and not self.is_directive(data)
        if isinstance(short, tuple):
            if isinstance(data, list):
                return self._listed(directive, short, data, place)
            if not has_names or len(short) == len(directive.arguments):
                wanted = f"a list of {' and '.join(short)}"
                raise place.error(f"{directive.name} takes {wanted}, not {self.type_of(data)}")
        elif short is not None and (len(directive.arguments) == 1 or not has_names):
            return {short: data}, {short: place}
        elif not has_names:
            raise place.error(f"{directive.name} takes an object, not {self.type_of(data)}")
        return data, {name: place.at(name) for name in data}

    @staticmethod
    def _listed(
        directive: Directive, names: tuple[str, ...], data: list[Any], place: Location
    ) -> tuple[dict[str, Any], dict[str, Location]]:
        if len(data) > len(names):
            raise place.error(f"{directive.name} takes {len(names)} items, not {len(data)}", ", ".join(names))
        names = names[: len(data)]
        return dict(zip(names, data, strict=True)), {name: place.at(index) for index, name in enumerate(names)}

    @staticmethod
    def _at_place(parse: Callable[[str], JsonPath], text: str, place: Location, offset: int = 0) -> JsonPath:
        try:
            return parse(text)
        except RuleError as error:
            raise place.error(error.message, error.hint, offset=offset) from None


def _numbers(data: Any) -> Iterator[int | float]:
    """Yield every number in plain data."""
    if isinstance(data, dict | list):
        for value in data.values() if isinstance(data, dict) else data:
            yield from _numbers(value)
    elif isinstance(data, int | float):
        yield data
