"""Directives for text."""

import re
from collections.abc import Mapping
from typing import Any

from transforms.codegen.emitter import Emitter
from transforms.codegen.writer import Expr
from transforms.directives.arguments import FLAG, VALUE, checked, choice, optional, text, whole
from transforms.directives.definition import directive
from transforms.model.nodes import Node
from transforms.runtime import text as texts
from transforms.runtime import user_agents
from transforms.syntax.regular_expressions import compile_expression, find_problem


def _of_text(out: Emitter, node: Node, method: str) -> Expr:
    """Call a method of a text; other values are unchanged."""
    value = out.variable(node, "text")
    return Expr(f"({value.code}{method} if type({value.code}) is str else {value.code})", value.missing)


@directive(
    "@case",
    arguments={"operator": choice("lower", "upper"), "value": VALUE},
)
def change_case(out: Emitter, operator: str, value: Node) -> Expr:
    """A text in lower or upper case; other values are unchanged."""
    return _of_text(out, value, {"lower": ".lower()", "upper": ".upper()"}[operator])


@directive(
    "@trim",
    short="value",
    arguments={"value": VALUE},
)
def trim(out: Emitter, value: Node) -> Expr:
    """A text without surrounding spaces; other values are unchanged."""
    return _of_text(out, value, ".strip()")


@directive(
    "@truncate",
    arguments={"value": VALUE, "length": whole(minimum=0)},
)
def truncate(out: Emitter, value: Node, length: int) -> Expr:
    """The first `length` characters of a text; other values are unchanged."""
    return _of_text(out, value, f"[:{length!r}]")


@directive(
    "@substring",
    arguments={"value": VALUE, "start": optional(whole()), "length": optional(whole(minimum=0))},
)
def cut_out(out: Emitter, value: Node, start: int = 0, length: int | None = None) -> Expr:
    """`length` characters of a text from `start` (0 is the first, negative counts from the end), or all up to its end;
    other values are unchanged.
    """
    end = "" if length is None else f"[:{length!r}]"
    return _of_text(out, value, f"[{start!r}:]{end}")


@directive(
    "@replace",
    gives="string",
    arguments={
        "value": VALUE,
        "pattern": text(empty=False),
        "replacement": optional(text()),
        "pattern2": optional(text()),
        "replacement2": optional(text()),
        "ignorecase": optional(FLAG),
        "global": optional(FLAG),
    },
)
def replace_text(
    out: Emitter,
    value: Node,
    pattern: str,
    *,
    replacement: str = "",
    pattern2: str = "",
    replacement2: str = "",
    ignorecase: bool = False,
    global_: bool = True,
) -> Expr:
    """A text with a string replaced, never a regular expression; numbers and booleans count as text, other values
    give ''.
    """
    expr = out.emit(value)
    for old, new in ((pattern, replacement), (pattern2, replacement2)):
        if not old:
            continue
        if ignorecase:
            wanted = out.constant(re.compile(re.escape(old), re.IGNORECASE), "PATTERN")
            count = "0" if global_ else "1"
            expr = out.call(texts.replace_any_case, expr.code, wanted, out.constant(new), count, missing=False)
        else:
            count = "-1" if global_ else "1"
            expr = out.call(texts.replace, expr.code, out.constant(old), out.constant(new), count, missing=False)
    return expr


@directive(
    "@json",
    arguments={"mode": choice("encode", "decode"), "value": VALUE},
)
def convert_json(out: Emitter, mode: str, value: Node) -> Expr:
    """A value as JSON text, or the value of JSON text; text that is not JSON is unchanged."""
    expr = out.emit(value)
    if mode == "encode":
        return out.call(texts.encode_json, expr.code)
    return out.call(texts.decode_json, expr.code, missing=expr.missing)


@directive(
    "@join",
    gives="string",
    arguments={"value": VALUE, "separator": optional(text())},
)
def join(out: Emitter, value: Node, separator: str = ",") -> Expr:
    """The items of a list joined by `separator`, without missing and null ones."""
    return out.call(texts.join, out.emit(value).code, out.constant(separator))


@directive(
    "@split",
    gives="array",
    arguments={"value": VALUE, "separator": text(empty=False)},
)
def split(out: Emitter, value: Node, separator: str) -> Expr:
    """A list of the parts of a text between separators."""
    return out.call(texts.split, out.emit(value).code, out.constant(separator))


def _regular_expression(data: Any) -> Any:
    if not isinstance(data, str):
        raise ValueError(f"{data!r} is not a regular expression", "quote it")  # noqa: TRY004 - an error in a file
    if problem := find_problem(data):
        hint = "RE2's syntax, without look-around and references"
        raise ValueError(f"{data!r} is not a regular expression: {problem}", hint)
    return compile_expression(data)


def _has_group(given: Mapping[str, Any]) -> str | None:
    groups, group = getattr(given["pattern"], "groups", None), given.get("group", 0)
    if groups is None or not isinstance(group, int) or group <= groups:
        return None
    return f"the pattern has no group {group}"


@directive(
    "@match",
    check=_has_group,
    arguments={
        "value": VALUE,
        "pattern": checked(_regular_expression, "regular expression"),
        "group": optional(whole(minimum=0)),
    },
)
def match(out: Emitter, value: Node, pattern: Any, group: int | None = None) -> Expr:
    """The match of a regular expression (RE2, linear time) in a text: its `group`, by default the first group, or the
    whole match if it has no groups.
    """
    number = min(pattern.groups, 1) if group is None else group
    return out.call_if_given(texts.match_group, out.value(value), out.constant(pattern, "PATTERN"), repr(number))


@directive(
    "@user_agent",
    gives="string",
    arguments={
        "value": VALUE,
        "part": choice(
            *("browser.name", "browser.version", "os.name", "os.version"),
            *("device.type", "device.manufacturer", "device.model"),
        ),
        "hints": optional(VALUE),
    },
)
def read_user_agent(out: Emitter, value: Node, part: str, hints: Node | None = None) -> Expr:
    """A part of the browser that a user agent names, or its client hints, as the enrichment `user_agent` finds it."""
    text = out.value(value)
    description = out.call_once(
        user_agents.describe, text, Expr("None", atom=True) if hints is None else out.value(hints)
    )
    group, _, name = part.partition(".")
    return out.call(user_agents.find_part, description.code, repr(group), repr(name))
