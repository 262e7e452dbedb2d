"""Directives that choose between values."""

from collections.abc import Mapping
from typing import Any

from transforms.codegen import conditions
from transforms.codegen.emitter import Emitter
from transforms.codegen.writer import Expr
from transforms.directives.arguments import CONDITION, TABLE, VALUE, VALUES, optional
from transforms.directives.definition import directive
from transforms.model.nodes import Condition, Constant, Node
from transforms.model.values import MISSING
from transforms.runtime import shapes


def _one_test(given: Mapping[str, Any]) -> str | None:
    tests = [name for name in ("exists", "blank", "when") if name in given]
    return None if len(tests) == 1 else f"@if takes one of exists, blank and when, not {len(tests)}"


def _branch_name(decided: Mapping[str, Any]) -> str:
    if "exists" in decided:
        holds = decided["exists"] is not MISSING and decided["exists"] is not None
    elif "blank" in decided:
        holds = not shapes.blank(decided["blank"])
    else:
        holds = bool(decided["when"])
    return "then" if holds else "else"


@directive(
    "@if",
    check=_one_test,
    branches=("then", "else"),
    decided_by=("exists", "blank", "when"),
    choose=_branch_name,
    arguments={
        "exists": optional(VALUE),
        "blank": optional(VALUE),
        "when": optional(CONDITION),
        "then": optional(VALUE),
        "else": optional(VALUE),
    },
)
def choose(
    out: Emitter,
    *,
    exists: Node | None = None,
    blank: Node | None = None,
    when: Condition | None = None,
    then: Node | None = None,
    else_: Node | None = None,
) -> Expr:
    """`then` if `exists` is neither missing nor null, if `blank` is not blank (missing, null, '', 0, false, an empty
    list), or if the condition `when` holds; otherwise `else`.
    """
    if exists:
        test = _is_given(out.variable(exists, absent="None"))
    elif blank:
        test = f"not {out.call(shapes.blank, out.emit(blank).code).code}"
    else:
        test = conditions.test(out, when) if when else "False"
    name = out.name("chosen")
    missing = _branch(out, f"if {test}:", then, name)
    return Expr(name, _branch(out, "else:", else_, name) or missing, atom=True)


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
    short="values",
    branches=("values",),
    takes_first=True,
    arguments={"values": VALUES},
)
def take_first(out: Emitter, values: tuple[Node, ...]) -> Expr:
    """The first value that is neither missing nor null."""
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
    decided_by=("key",),
    arguments={"table": TABLE, "key": VALUE, "default": optional(VALUE)},
)
def look_up(out: Emitter, table: dict[str, Any], key: Node, default: Node | None = None) -> Expr:
    """The value of a key in a table; `default` if the table does not have the key."""
    fallback = out.emit(default) if default else Expr("MISSING")
    return out.call(shapes.lookup, out.constant(table, "TABLE"), out.emit(key).code, fallback.code)
