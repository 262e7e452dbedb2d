"""Choosing between values."""

from collections.abc import Collection
from typing import Any

from transforms.codegen import conditions
from transforms.codegen.emitter import Emitter, Expr
from transforms.directives.definition import Table, Value, Values, When, directive
from transforms.runtime.shapes import blank, lookup
from transforms.tree import Constant, Node


def _one_test(given: Collection[str]) -> str | None:
    tests = [name for name in ("exists", "blank", "when") if name in given]
    return None if len(tests) == 1 else f"@if takes one of exists, blank and when, not {len(tests)}"


@directive(
    "@if",
    summary="`then` if the value of `exists` is neither missing nor null, that of `blank` is not blank "
    "(missing, null, '', 0, false), or the condition of `when` holds; else `else`.",
    check=_one_test,
    exists=Value(required=False),
    blank=Value(required=False),
    when=When(required=False),
    then=Value(required=False),
    **{"else": Value(required=False)},
)
def choose(out: Emitter, **given: Any) -> Expr:
    then, otherwise = given.get("then"), given.get("else")
    if "when" in given:
        test = conditions.test(out, given["when"])
    elif "exists" in given:
        test = _is_given(out.bind(out.emit(given["exists"], "None")))
    else:
        test = f"not {out.call(blank, out.emit(given['blank']).code).code}"
    name = out.name("chosen")
    missing = _branch(out, f"if {test}:", then, name)
    return Expr(name, _branch(out, "else:", otherwise, name) or missing, atom=True)


def _branch(out: Emitter, header: str, node: Node | None, name: str) -> bool:
    with out.block(header):
        return out.assign(out.emit(node) if node else Expr("MISSING"), name).missing


def _is_given(value: Expr) -> str:
    return f"{value.code} is not None" + (f" and {value.code} is not MISSING" if value.missing else "")


def _is_absent(value: Expr) -> str:
    return f"{value.code} is None" + (f" or {value.code} is MISSING" if value.missing else "")


@directive(
    "@default",
    "@coalesce",
    summary="The first value that is neither missing nor null.",
    short="values",
    values=Values(),
)
def take_first(out: Emitter, values: tuple[Node, ...]) -> Expr:
    if not values:
        return Expr("MISSING", atom=True)
    first, *others = values
    value = out.variable(first, "first", "None")
    for number, node in enumerate(others):
        with out.block(f"if {_is_absent(value)}:"):
            last = number == len(others) - 1
            expr = out.emit(node, "MISSING" if last else "None")
            out.assign(expr, value.code)
        certain = isinstance(node, Constant) and node.value is not None and not expr.missing
        if certain:
            return Expr(value.code, missing=False, atom=True)
        value = Expr(value.code, value.missing or expr.missing, atom=True)
    with out.indented(f"if {value.code} is None:"):
        out.line(f"{value.code} = MISSING")
    return Expr(value.code, atom=True)


@directive(
    "@lookup",
    summary="The value that a table has for a key, else `default`.",
    table=Table(),
    key=Value(),
    default=Value(required=False),
)
def look_up(out: Emitter, table: dict[str, Any], key: Node, default: Node | None = None) -> Expr:
    fallback = out.emit(default) if default else Expr("MISSING")
    return out.call(lookup, out.constant(table, "TABLE"), out.emit(key).code, fallback.code)
