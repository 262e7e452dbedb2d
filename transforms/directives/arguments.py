"""The kinds of arguments that directives accept."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from transforms.documents import Location
from transforms.model.directive import Argument
from transforms.model.nodes import Constant, Node
from transforms.syntax.parser import Parser

Parse = Callable[[Parser, Any, Location], Any]


def optional(argument: Argument) -> Argument:
    """Make an argument optional."""
    return replace(argument, required=False)


def text(*, empty: bool = True) -> Argument:
    """Accept a string."""

    def parse(parser: Parser, data: Any, place: Location) -> str:
        value = parser.typed(data, place, str, "a string")
        if not value and not empty:
            raise place.error("this must not be empty")
        return value

    return Argument("text", parse)


def choice(*options: str) -> Argument:
    """Accept one of these words."""

    def parse(parser: Parser, data: Any, place: Location) -> str:
        if not isinstance(data, str) or data not in options:
            hint = parser.nearest(data, options)
            raise place.error(f"{parser.shown(data)} is not one of {', '.join(options)}", hint)
        return data

    return Argument(" or ".join(options), parse)


def whole(*, minimum: int | None = None) -> Argument:
    """Accept an integer."""

    def parse(parser: Parser, data: Any, place: Location) -> int:
        number = parser.typed(data, place, int, "a whole number")
        if minimum is not None and number < minimum:
            raise place.error(f"{number} is too small", f"at least {minimum}")
        if abs(number) > 10**9:
            raise place.error("this number is too large", "at most 1,000,000,000")
        return number

    return Argument("whole number", parse)


def checked(check: Callable[[Any], Any], kind: str) -> Argument:
    """Accept a constant that `check` accepts; it returns the argument or raises ValueError(message, hint)."""

    def parse(_parser: Parser, data: Any, place: Location) -> Any:
        try:
            return check(data)
        except ValueError as error:
            raise place.error(*(str(part) for part in error.args[:2])) from None

    return Argument(kind, parse)


def _path(parser: Parser, data: Any, place: Location) -> Node:
    return parser.path(data, place) if isinstance(data, str) else parser.directive(data, place)


def _template(parser: Parser, data: Any, place: Location) -> Node:
    return parser.template(data, place) if isinstance(data, str) else parser.directive(data, place)


def _list_of(parse: Parse) -> Parse:
    def parse_all(parser: Parser, data: Any, place: Location) -> tuple[Any, ...]:
        items = parser.typed(data, place, list, "a list")
        return tuple(parse(parser, item, place.at(index)) for index, item in enumerate(items))

    return parse_all


def _object(parser: Parser, data: Any, place: Location) -> Node:
    node = parser.value(data, place)
    if isinstance(node, Constant) or isinstance(data, list):
        raise place.error(f"this is an object or a directive, not {parser.type_of(data)}")
    return node


def _plain_object(parser: Parser, data: Any, place: Location) -> Node:
    return parser.value(parser.typed(data, place, dict, "an object"), place)


VALUE = Argument("value", lambda parser, data, place: parser.value(data, place))
VALUES = Argument("list of values", _list_of(VALUE.parse))
LITERAL = Argument(
    "value, its strings as they are",
    lambda parser, data, place: parser.value(data, place, literal=True),
    literal=True,
)
PATH = Argument("path", _path)
TEMPLATE = Argument("template", _template)
OBJECT = Argument("object", _object)
OBJECTS = Argument("list of objects", _list_of(_object))
PLAIN_OBJECT = Argument("object", _plain_object)
FLAG = Argument("true or false", lambda parser, data, place: parser.typed(data, place, bool, "true or false"))
CONDITION = Argument("condition", lambda parser, data, place: parser.condition(data, place))
TABLE = Argument("object, or the name of a file beside", lambda parser, data, place: parser.table(data, place))
