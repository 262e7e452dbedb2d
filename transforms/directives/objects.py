"""Working on objects."""

from transforms.codegen.emitter import Emitter, Expr
from transforms.directives.definition import Choice, Flag, Object, Objects, Plain, Text, Value, directive
from transforms.runtime import shapes
from transforms.tree import Node


@directive(
    "@flatten",
    summary="One object of all that is nested, keys joined by `separator`; indexes become keys, unless `omitArrays`.",
    value=Value(),
    separator=Text(required=False, empty=False),
    omitArrays=Flag(),
)
def flatten(out: Emitter, value: Node, separator: str = ".", *, omitArrays: bool = False) -> Expr:  # noqa: N803
    code = out.emit(value).code
    return out.call(shapes.flatten, code, out.constant(separator), repr(omitArrays), missing=False)


@directive(
    "@merge",
    summary="The keys of several objects in one, not deeply; `right` (the default): the last one's values win.",
    objects=Objects(),
    direction=Choice(("left", "right"), required=False),
)
def merge(out: Emitter, objects: tuple[Node, ...], direction: str = "right") -> Expr:
    codes = [out.value(node).code for node in objects]
    if direction == "left":
        codes.reverse()
    return out.call(shapes.merge, *codes, missing=False)


@directive(
    "@transform",
    summary="A mapping of what another mapping, `apply`, makes of the event.",
    apply=Plain(),
    mapping=Object(),
)
def transform(out: Emitter, apply: Node, mapping: Node) -> Expr:
    applied = out.variable(apply, "applied")
    with out.rooted(applied):
        return out.value(mapping)


@directive(
    "@excludeWhenNull",
    summary="The value without keys that hold null, at any depth of objects; missing if it is null itself.",
    short="value",
    value=Value(),
)
def exclude_when_null(out: Emitter, value: Node) -> Expr:
    return out.call(shapes.without_nulls, out.emit(value).code)
