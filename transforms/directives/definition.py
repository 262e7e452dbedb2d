"""What a directive is: its name, its arguments and the code it becomes, declared in one place.

Parsing, checking, code and documentation all come from the definition, so a new directive is one decorated function.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from transforms.tree import Call, Constant, Place, Shape

if TYPE_CHECKING:
    from transforms.codegen import Emitter, Expr
    from transforms.parser import Parser


class Argument(Protocol):
    """One argument of a directive: how it is parsed, and how the documentation names it."""

    required: bool

    @property
    def kind(self) -> str:
        """A few words for the documentation: what may stand here."""

    def parse(self, parser: "Parser", data: Any, place: Place) -> Any:
        """What the directive's function gets; raises RuleError."""


@dataclass(frozen=True)
class Value:
    """Any value: a constant, path, template, object, list or directive."""

    required: bool = True
    kind: ClassVar[str] = "value"

    def parse(self, parser: "Parser", data: Any, place: Place) -> Any:
        return parser.value(data, place)


@dataclass(frozen=True)
class Literal:
    """A value whose strings are text, never paths or templates."""

    required: bool = True
    kind: ClassVar[str] = "any"

    def parse(self, parser: "Parser", data: Any, place: Place) -> Any:
        return parser.value(data, place, literal=True)


@dataclass(frozen=True)
class PathText:
    """A path: JSONPath with or without `$.`, or a directive that gives one."""

    required: bool = True
    kind: ClassVar[str] = "path"

    def parse(self, parser: "Parser", data: Any, place: Place) -> Any:
        if isinstance(data, str):
            return parser.path(data, place)
        return parser.directive(data, place, "a string or a directive")


@dataclass(frozen=True)
class TemplateText:
    """A template, or a directive that gives one."""

    required: bool = True
    kind: ClassVar[str] = "template"

    def parse(self, parser: "Parser", data: Any, place: Place) -> Any:
        if isinstance(data, str):
            return parser.template(data, place)
        return parser.directive(data, place, "a string or a directive")


@dataclass(frozen=True)
class Text:
    """A fixed string."""

    required: bool = True
    empty: bool = True
    kind: ClassVar[str] = "text"

    def parse(self, parser: "Parser", data: Any, place: Place) -> Any:
        text = parser.typed(data, place, str, "a string")
        if not text and not self.empty:
            raise place.error("this must not be empty")
        return text


@dataclass(frozen=True)
class Choice:
    """One of some words."""

    options: tuple[str, ...]
    required: bool = True

    @property
    def kind(self) -> str:
        return ", ".join(f"`{option}`" for option in self.options)

    def parse(self, parser: "Parser", data: Any, place: Place) -> Any:
        if data not in self.options or not isinstance(data, str):
            raise place.error(
                f"{parser.shown(data)} is not one of {', '.join(self.options)}", parser.nearest(data, self.options)
            )
        return data


@dataclass(frozen=True)
class Flag:
    """True or false."""

    required: bool = False
    kind: ClassVar[str] = "true or false"

    def parse(self, parser: "Parser", data: Any, place: Place) -> Any:
        return parser.typed(data, place, bool, "true or false")


@dataclass(frozen=True)
class Whole:
    """A whole number."""

    required: bool = True
    minimum: int | None = None
    kind: ClassVar[str] = "whole number"

    def parse(self, parser: "Parser", data: Any, place: Place) -> Any:
        number = parser.typed(data, place, int, "a whole number")
        if self.minimum is not None and number < self.minimum:
            raise place.error(f"{number} is too small", f"at least {self.minimum}")
        return number


@dataclass(frozen=True)
class Values:
    """A list of values."""

    required: bool = True
    kind: ClassVar[str] = "list of values"

    def parse(self, parser: "Parser", data: Any, place: Place) -> Any:
        items = parser.typed(data, place, list, "a list")
        return tuple(parser.value(item, place.at(index)) for index, item in enumerate(items))


@dataclass(frozen=True)
class Objects:
    """A list of objects, or of directives that give one."""

    required: bool = True
    kind: ClassVar[str] = "list of objects"

    def parse(self, parser: "Parser", data: Any, place: Place) -> Any:
        items = parser.typed(data, place, list, "a list")
        return tuple(Object().parse(parser, item, place.at(index)) for index, item in enumerate(items))


@dataclass(frozen=True)
class Object:
    """An object, or a directive that gives one; a string only if it is a path."""

    required: bool = True
    kind: ClassVar[str] = "object"

    def parse(self, parser: "Parser", data: Any, place: Place) -> Any:
        node = parser.value(data, place)
        if not isinstance(data, dict) and (isinstance(node, Constant) or isinstance(data, list)):
            raise place.error(f"this is an object or a directive, not {parser.type_of(data)}")
        return node


@dataclass(frozen=True)
class Plain:
    """An object that is no directive."""

    required: bool = True
    kind: ClassVar[str] = "object"

    def parse(self, parser: "Parser", data: Any, place: Place) -> Any:
        node = parser.value(parser.typed(data, place, dict, "an object"), place)
        if not isinstance(node, Shape | Call):
            raise place.error("this is an object")
        return node


@dataclass(frozen=True)
class When:
    """A condition."""

    required: bool = True
    kind: ClassVar[str] = "condition"

    def parse(self, parser: "Parser", data: Any, place: Place) -> Any:
        return parser.condition(data, place)


@dataclass(frozen=True)
class Checked:
    """A constant of some type that a function checks and converts; the function raises ValueError(message, hint)."""

    check: Callable[[Any], Any]
    kind: str
    required: bool = True

    def parse(self, parser: "Parser", data: Any, place: Place) -> Any:
        try:
            return self.check(data)
        except ValueError as error:
            raise place.error(*(str(part) for part in error.args[:2])) from None


@dataclass(frozen=True)
class Table:
    """A table of constants: written here, or in a YAML or JSON file beside this one, by its name."""

    required: bool = True
    kind: ClassVar[str] = "table"

    def parse(self, parser: "Parser", data: Any, place: Place) -> Any:
        return parser.table(data, place)


Emit = Callable[..., "Expr"]


@dataclass(frozen=True)
class Directive:
    """A directive.

    `short` names the argument that a value without argument names is, or the arguments that a list gives in order.
    `check` says what is wrong with the names of the arguments given, if anything.
    """

    name: str
    summary: str
    arguments: Mapping[str, Argument]
    short: str | tuple[str, ...] | None
    emit: Callable[["Emitter", Mapping[str, Any]], "Expr"]
    check: Callable[[Collection[str]], str | None] | None = None

    def parse(self, parser: "Parser", data: Any, place: Place) -> Call:
        """The call that `data`, the directive's value, makes."""
        given, places = self._given(parser, data, place)
        for name in given:
            if name not in self.arguments:
                hint = parser.nearest(name, self.arguments) or f"there are {', '.join(self.arguments)}"
                raise places[name].error(f"{self.name} has no {name!r}", hint, key=True)
        parsed: dict[str, Any] = {}
        for name, argument in self.arguments.items():
            if name in given:
                parsed[name] = parser.collect(argument.parse, places[name], parser, given[name], places[name])
            elif argument.required:
                raise place.error(f"{self.name} needs {name!r}", f"{name}: {argument.kind}", key=True)
        if self.check and (mistake := self.check(parsed)):
            raise place.error(mistake, key=True)
        return Call(place, self, parsed)

    def _given(self, parser: "Parser", data: Any, place: Place) -> tuple[dict[str, Any], dict[str, Place]]:
        options = isinstance(data, dict) and not parser.is_directive(data)
        if isinstance(self.short, tuple) and isinstance(data, list):
            if len(data) > len(self.short):
                raise place.error(f"{self.name} takes {len(self.short)} items, not {len(data)}", ", ".join(self.short))
            names = self.short[: len(data)]
            return dict(zip(names, data, strict=True)), {name: place.at(index) for index, name in enumerate(names)}
        if isinstance(self.short, str) and (len(self.arguments) == 1 or not options):
            return {self.short: data}, {self.short: place}
        if not options or (isinstance(self.short, tuple) and len(self.short) == len(self.arguments)):
            wanted = f"a list of {' and '.join(self.short)}" if isinstance(self.short, tuple) else "an object"
            raise place.error(f"{self.name} takes {wanted}, not {parser.type_of(data)}")
        return data, {name: place.at(name) for name in data}


DIRECTIVES: dict[str, Directive] = {}


def directive(
    *names: str,
    summary: str,
    short: str | tuple[str, ...] | None = None,
    check: Callable[[Collection[str]], str | None] | None = None,
    **arguments: Argument,
) -> Callable[[Emit], Emit]:
    """Define a directive by the function that writes its code; the function gets the parsed arguments by name."""

    def define(emit: Emit) -> Emit:
        for name in names:
            DIRECTIVES[name] = Directive(
                name, summary, arguments, short, lambda out, parsed: emit(out, **parsed), check
            )
        return emit

    return define
