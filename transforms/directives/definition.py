"""What a directive is: its name, its arguments and the code it becomes, declared in one place.

Parsing, checking, code and documentation all come from the definition, so a new directive is one decorated function.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import getdoc
from keyword import iskeyword
from typing import TYPE_CHECKING, Any

from transforms.directives.arguments import Argument
from transforms.model.nodes import Call, Place

if TYPE_CHECKING:
    from transforms.codegen.emitter import Emitter, Expr
    from transforms.syntax.parser import Parser


Emit = Callable[..., "Expr"]


@dataclass(frozen=True)
class Directive:
    """A directive.

    `short` names the argument that a value without argument names is, or the arguments that a list gives in order.
    `check` says what is wrong with the parsed arguments together, if anything. `gives` is the JSON type of its value
    where that is always the same. `rooted` names the argument whose paths begin at another value than the directive's.
    """

    name: str
    summary: str
    arguments: Mapping[str, Argument]
    short: str | tuple[str, ...] | None
    emit: Callable[["Emitter", Mapping[str, Any]], "Expr"]
    check: Callable[[Mapping[str, Any]], str | None] | None = None
    gives: str | None = None
    rooted: str | None = None

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
                raise place.error(f"{self.name} needs {name!r}", f"add {name}: {argument.kind}", key=True)
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
    arguments: Mapping[str, Argument],
    short: str | tuple[str, ...] | None = None,
    check: Callable[[Mapping[str, Any]], str | None] | None = None,
    gives: str | None = None,
    rooted: str | None = None,
) -> Callable[[Emit], Emit]:
    """Define a directive by the function that writes its code.

    The function gets the parsed arguments by name (`else` as `else_`); its docstring is what the documentation says.
    """

    def define(emit: Emit) -> Emit:
        def write(out: "Emitter", parsed: Mapping[str, Any]) -> "Expr":
            return emit(out, **{f"{name}_" if iskeyword(name) else name: each for name, each in parsed.items()})

        for name in names:
            DIRECTIVES[name] = Directive(name, getdoc(emit) or "", arguments, short, write, check, gives, rooted)
        return emit

    return define
