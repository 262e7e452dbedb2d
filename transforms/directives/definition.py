"""The decorator that defines a directive, and the registry of all directives."""

from collections.abc import Callable, Mapping
from inspect import getdoc
from keyword import iskeyword
from typing import Any

from transforms.codegen.emitter import Emitter
from transforms.codegen.writer import Expr
from transforms.model.directive import Argument, Directive

Emit = Callable[..., Expr]

DIRECTIVES: dict[str, Directive] = {}


def directive(
    *names: str, arguments: Mapping[str, Argument], from_segment: tuple[str, ...] = (), **properties: Any
) -> Callable[[Emit], Emit]:
    """Define a directive by the function that writes its code.

    The function gets the parsed arguments by name (`else` as `else_`); its docstring becomes the documentation.

    Args:
        names: The directive's names.
        arguments: Its arguments by name.
        from_segment: The names under which its path has the meaning that Segment gives it.
        properties: Other attributes of Directive.
    """

    def define(emit: Emit) -> Emit:
        def write(out: Emitter, parsed: Mapping[str, Any]) -> Expr:
            return emit(out, **{f"{name}_" if iskeyword(name) else name: each for name, each in parsed.items()})

        for name in names:
            DIRECTIVES[name] = Directive(
                name=name,
                summary=getdoc(emit) or "",
                arguments=arguments,
                emit=write,
                from_segment=name in from_segment,
                **properties,
            )
        return emit

    return define
