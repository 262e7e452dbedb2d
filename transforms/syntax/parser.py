"""Plain data to the tree of nodes: strings to paths and templates, objects to shapes and directives."""

import pathlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

from transforms.directives import DIRECTIVES
from transforms.documents import Document, RuleError
from transforms.model.nodes import (
    MISSING,
    Condition,
    Constant,
    Items,
    Missing,
    Node,
    Path,
    Place,
    Read,
    Remove,
    Shape,
    Template,
)
from transforms.runtime.numbers import fits_json
from transforms.runtime.text import PLACEHOLDER
from transforms.syntax.conditions import parse_condition
from transforms.syntax.paths import parse_loose_path, parse_path

T = TypeVar("T")

MAX_DEPTH = 32
MAX_NODES = 50_000

_NOT_TAKEN_OVER = {
    "@liquid": "use @template, @case, @replace, @if or @default",
}
_METADATA = "_metadata"
_NEARLY_A_PATH = re.compile(r"\s*\$\s*(?:[.\[]|$)")


class Parser:
    """Parses a mapping; mistakes that leave the rest readable are collected in `errors`, so that all come at once."""

    def __init__(self, errors: list[RuleError]) -> None:
        self.errors = errors
        self._depth = 0
        self._nodes = 0

    def value(self, data: Any, place: Place, *, literal: bool = False) -> Node:
        """The node of any data; with `literal`, strings are text."""
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
                return Items(place, tuple(items))
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

    def path(self, text: str, place: Place) -> Read:
        """A path that may be in Segment's dotted form."""
        return Read(place, self._at_place(parse_loose_path, text, place))

    def template(self, text: str, place: Place) -> Node:
        """Text with `{{path}}` or `{{{path}}}` in it."""
        parts: list[str | Path] = []
        end = 0
        for match in PLACEHOLDER.finditer(text):
            parts.append(text[end : match.start()])
            inner = (match[1] or match[2]).strip()
            if not inner:
                raise place.error("a placeholder without a path", "write {{properties.name}}", offset=match.start())
            parts.append(self._at_place(parse_loose_path, inner, place, offset=match.start()))
            end = match.end()
        parts.append(text[end:])
        kept = tuple(part for part in parts if part != "")
        return Template(place, kept) if any(isinstance(part, Path) for part in kept) else Constant(place, text)

    def condition(self, data: Any, place: Place) -> Condition:
        """A condition's text."""
        text = self.typed(data, place, str, "a condition")
        return parse_condition(text, lambda message, hint, offset: place.error(message, hint, offset=offset))

    def table(self, data: Any, place: Place) -> dict[str, Any]:
        """A table of constants, here or in a file beside this one."""
        if isinstance(data, str):
            data = self._table_file(data, place)
        table = self.typed(data, place, dict, "a table: an object, or the name of a file beside this one")
        if not all(map(fits_json, _numbers(table))):
            raise place.error("a number in the table is out of range", "quote it if it is text")
        return table

    def _table_file(self, name: str, place: Place) -> Any:
        if place.document is None or pathlib.Path(name).name != name or name.startswith("."):
            raise place.error(f"{name!r} is no file beside this one", "a name like countries.yaml")
        try:
            return Document.read(pathlib.Path(place.document.path).parent / name).data
        except RuleError as error:
            raise place.error(f"the table {name!r}: {error.message}", error.hint) from None

    def directive(self, data: Any, place: Place) -> Node:
        """What stands where a string or a directive must."""
        if not self.is_directive(data):
            raise place.error(f"this is a string or a directive, not {self.type_of(data)}")
        return self.value(data, place)

    def typed(self, data: Any, place: Place, kind: type[T], wanted: str) -> T:
        """`data` if it is of this type."""
        if not isinstance(data, kind) or (isinstance(data, bool) and kind is not bool):
            raise place.error(f"this is {wanted}, not {self.type_of(data)}")
        return data

    def collect(self, parse: Callable[..., Any], place: Place, *arguments: Any, **options: Any) -> Any:
        """What `parse` gives; a mistake is noted, and nothing stands in for the value."""
        try:
            return parse(*arguments, **options)
        except RuleError as error:
            self.errors.append(error)
            return Constant(place, MISSING)

    @staticmethod
    def is_directive(data: Any) -> bool:
        """Whether this is an object with a key that begins with `@`."""
        return isinstance(data, dict) and any(isinstance(key, str) and key.startswith("@") for key in data)

    @staticmethod
    def nearest(name: Any, names: Collection[str] | Mapping[str, Any]) -> str | None:
        """A hint with the name that was probably meant."""
        close = get_close_matches(str(name)[:100], list(names), 1, 0.6)
        return f"did you mean {close[0]}?" if close else None

    @staticmethod
    def shown(data: Any) -> str:
        """A value in a message, shortened."""
        text = repr(data)
        return text if len(text) <= 60 else f"{text[:57]}…"

    @staticmethod
    def type_of(data: Any) -> str:
        """The data's type as a file's author knows it."""
        names = {
            dict: "an object",
            list: "a list",
            str: "a string",
            bool: "true or false",
            type(None): "null",
            Missing: "nothing",
        }
        return names.get(type(data), "a number" if isinstance(data, int | float) else f"a {type(data).__name__}")

    def _child(self, data: Any, place: Place, *, literal: bool) -> Node:
        node: Node = self.collect(self.value, place, data, place, literal=literal)
        return node

    def _string(self, text: str, place: Place) -> Node:
        if text == "$" or text.startswith(("$.", "$[")):
            return Read(place, self._at_place(parse_path, text, place))
        if _NEARLY_A_PATH.match(text):
            path = "".join(text.split())
            raise place.error(
                f"{text!r} is neither a path nor plain text", f"write {path}, or {{'@literal': {text!r}}} for the text"
            )
        if "{{" in text:
            return self.template(text, place)
        return Constant(place, text)

    def _object(self, data: dict[Any, Any], place: Place, *, literal: bool) -> Node:
        for key in data:
            if not isinstance(key, str):
                raise place.error(f"the key {self.shown(key)} is not a string", "quote it")
        if not self.is_directive(data):
            return Shape(
                place,
                {key: self._child(value, place.at(key), literal=literal) for key, value in data.items()},
            )
        names = [key for key in data if key != _METADATA]
        name = next(key for key in names if key.startswith("@"))
        if len(names) > 1:
            others = ", ".join(key for key in names if key != name)
            raise place.error(
                f"{name} stands with other keys: {others}", "a directive is the only key of its object; nest it"
            )
        inner = place.at(name)
        if name == "@remove":
            if data[name] is not True:
                raise inner.error("@remove takes true")
            return Remove(place)
        if name in _NOT_TAKEN_OVER:
            raise inner.error(f"{name} is not supported", _NOT_TAKEN_OVER[name], key=True)
        definition = DIRECTIVES.get(name)
        if definition is None:
            hint = self.nearest(name, DIRECTIVES) or 'write {"@literal": …} for a key that begins with @'
            raise inner.error(f"{self.shown(name)} is no directive", hint, key=True)
        return definition.parse(self, data[name], inner)

    @staticmethod
    def _at_place(parse: Callable[[str], Path], text: str, place: Place, offset: int = 0) -> Path:
        try:
            return parse(text)
        except RuleError as error:
            raise place.error(error.message, error.hint, offset=offset) from None


def _numbers(data: Any) -> Iterator[int | float]:
    """Every number in plain data."""
    if isinstance(data, dict | list):
        for value in data.values() if isinstance(data, dict) else data:
            yield from _numbers(value)
    elif isinstance(data, int | float):
        yield data
