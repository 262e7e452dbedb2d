"""The directive that calls functions of other packages."""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from transforms.codegen.emitter import Emitter
from transforms.codegen.writer import Expr
from transforms.directives.arguments import VALUES, checked, optional
from transforms.directives.definition import directive
from transforms.model.nodes import Node
from transforms.runtime.numbers import fitting

GROUP = "turnout.functions"


@cache
def _installed() -> Mapping[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _function(name: Any) -> Callable[..., Any]:
    installed = _installed()
    if not isinstance(name, str) or name not in installed:
        close = get_close_matches(str(name), installed, 1)
        hint = f"did you mean {close[0]}?" if close else f"register it under the entry-point group {GROUP}"
        raise ValueError(f"unknown function {name!r}", hint)
    try:
        function: Callable[..., Any] = installed[name].load()
    except Exception as error:  # noqa: BLE001 - another package's import may raise anything
        raise ValueError(f"the function {name!r} cannot be imported: {type(error).__name__}") from None
    if not callable(function):
        raise ValueError(f"{installed[name].value} is not a function")  # noqa: TRY004 - an error in a file
    return function


@directive(
    "@call",
    short="function",
    arguments={
        "function": checked(_function, "name under the entry-point group `turnout.functions`"),
        "arguments": optional(VALUES),
    },
)
def call_function(out: Emitter, function: Callable[..., Any], arguments: tuple[Node, ...] = ()) -> Expr:
    """The result of a Python function of an installed package; missing arguments are passed as null."""
    codes = []
    for node in arguments:
        value = out.value(node)
        codes.append(f"(None if {value.code} is MISSING else {value.code})" if value.missing else value.code)
    result = f"{out.constant(function, 'FUNCTION')}({', '.join(codes)})"
    return out.call(_checked, result)


def _checked(result: Any) -> Any:
    return fitting(result, "@call") if type(result) is int or type(result) is float else result
