"""Working on text."""

import re
from typing import Any

import re2

from transforms.codegen.emitter import Emitter, Expr
from transforms.directives.definition import Checked, Choice, Flag, Text, Value, Whole, directive
from transforms.runtime import text as texts
from transforms.tree import Node


def _of_text(out: Emitter, node: Node, method: str) -> Expr:
    """A method of text; what is not text stays as it is."""
    expr = out.emit(node)
    value = out.bind(expr)
    return Expr(f"({value.code}{method} if type({value.code}) is str else {value.code})", expr.missing)


@directive(
    "@case",
    summary="Text in lower or upper case; what is not text stays as it is.",
    operator=Choice(("lower", "upper")),
    value=Value(),
)
def change_case(out: Emitter, operator: str, value: Node) -> Expr:
    return _of_text(out, value, {"lower": ".lower()", "upper": ".upper()"}[operator])


@directive(
    "@trim", summary="Text without space around it; what is not text stays as it is.", short="value", value=Value()
)
def trim(out: Emitter, value: Node) -> Expr:
    return _of_text(out, value, ".strip()")


@directive(
    "@truncate",
    summary="The first characters of a text; what is not text stays as it is.",
    value=Value(),
    length=Whole(minimum=0),
)
def truncate(out: Emitter, value: Node, length: int) -> Expr:
    return _of_text(out, value, f"[:{length!r}]")


@directive(
    "@substring",
    summary="Characters of a text from `start` (from 0; negative: from its end), `length` of them or up to its end; "
    "what is not text stays as it is.",
    value=Value(),
    start=Whole(required=False),
    length=Whole(required=False, minimum=0),
)
def cut_out(out: Emitter, value: Node, start: int = 0, length: int | None = None) -> Expr:
    end = "" if length is None else f"[:{length!r}]"
    return _of_text(out, value, f"[{start!r}:]{end}")


@directive(
    "@replace",
    summary="Text with one string for another, never a regular expression; numbers and booleans count as text, "
    "anything else gives ''.",
    value=Value(),
    pattern=Text(empty=False),
    replacement=Text(required=False),
    pattern2=Text(required=False),
    replacement2=Text(required=False),
    ignorecase=Flag(),
    **{"global": Flag()},
)
def replace_text(
    out: Emitter,
    value: Node,
    pattern: str,
    replacement: str = "",
    pattern2: str = "",
    replacement2: str = "",
    *,
    ignorecase: bool = False,
    **given: bool,
) -> Expr:
    everywhere = given.get("global", True)
    expr = out.emit(value)
    for old, new in ((pattern, replacement), (pattern2, replacement2)):
        if not old:
            continue
        if ignorecase:
            wanted = out.constant(re.compile(re.escape(old), re.IGNORECASE), "PATTERN")
            count = "0" if everywhere else "1"
            expr = out.call(texts.replace_any_case, expr.code, wanted, out.constant(new), count, missing=False)
        else:
            count = "-1" if everywhere else "1"
            expr = out.call(texts.replace, expr.code, out.constant(old), out.constant(new), count, missing=False)
    return expr


@directive(
    "@json",
    summary="A value as JSON text, or the value of JSON text; text that is not JSON stays as it is.",
    mode=Choice(("encode", "decode")),
    value=Value(),
)
def convert_json(out: Emitter, mode: str, value: Node) -> Expr:
    expr = out.emit(value)
    if mode == "encode":
        return out.call(texts.encode_json, expr.code)
    return out.call(texts.decode_json, expr.code, missing=expr.missing)


@directive(
    "@join",
    summary="The items of a list as one text with `separator` between; missing and null ones are left out.",
    value=Value(),
    separator=Text(required=False),
)
def join(out: Emitter, value: Node, separator: str = ",") -> Expr:
    return out.call(texts.join, out.emit(value).code, out.constant(separator))


@directive(
    "@split", summary="The list of a text's parts between separators.", value=Value(), separator=Text(empty=False)
)
def split(out: Emitter, value: Node, separator: str) -> Expr:
    return out.call(texts.split, out.emit(value).code, out.constant(separator))


def _regular_expression(data: Any) -> Any:
    if not isinstance(data, str):
        raise ValueError(f"{data!r} is no regular expression", "quote it")
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(data, options)
    except re2.error as error:
        reason = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
        raise ValueError(
            f"{data!r} is not a regular expression: {reason}", "RE2's syntax, without look-around and references"
        ) from None


@directive(
    "@match",
    summary="What a regular expression (RE2, linear time) finds in a text: its `group`, by default the first if it "
    "has one, else all.",
    value=Value(),
    pattern=Checked(_regular_expression, "regular expression"),
    group=Whole(required=False, minimum=0),
)
def match(out: Emitter, value: Node, pattern: Any, group: int | None = None) -> Expr:
    number = min(pattern.groups, 1) if group is None else group
    return out.call(texts.match_group, out.emit(value).code, out.constant(pattern, "PATTERN"), repr(number))
