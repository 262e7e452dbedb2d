"""Directives for objects."""

from transforms.codegen.emitter import Emitter
from transforms.codegen.writer import Expr
from transforms.directives.arguments import FLAG, OBJECT, OBJECTS, PLAIN_OBJECT, VALUE, choice, optional, text
from transforms.directives.definition import directive
from transforms.model.directive import Root
from transforms.model.nodes import Node
from transforms.runtime import shapes


@directive(
    "@flatten",
    gives="object",
    arguments={"value": VALUE, "separator": optional(text(empty=False)), "omitArrays": optional(FLAG)},
)
def flatten(out: Emitter, value: Node, separator: str = ".", *, omitArrays: bool = False) -> Expr:  # noqa: N803
    """One flat object, with nested keys joined by `separator`; list indexes become keys unless `omitArrays` is set."""
    code = out.emit(value).code
    return out.call(shapes.flatten, code, out.constant(separator), repr(omitArrays), missing=False)


@directive(
    "@merge",
    gives="object",
    merges="objects",
    arguments={"objects": OBJECTS, "direction": optional(choice("left", "right"))},
)
def merge(out: Emitter, objects: tuple[Node, ...], direction: str = "right") -> Expr:
    """Several objects merged into one, not deeply; the last one wins, or with `left` the first."""
    codes = [out.value(node).code for node in objects]
    if direction == "left":
        codes.reverse()
    return out.call(shapes.merge, *codes, missing=False)


@directive(
    "@transform",
    branches=("mapping",),
    root=Root(argument="mapping", at="apply"),
    arguments={"apply": PLAIN_OBJECT, "mapping": OBJECT},
)
def transform(out: Emitter, apply: Node, mapping: Node) -> Expr:
    """`mapping` applied to the result of another mapping, `apply`."""
    applied = out.variable(apply, "applied")
    with out.rooted(applied):
        return out.value(mapping)


@directive(
    "@excludeWhenNull",
    branches=("value",),
    short="value",
    arguments={"value": VALUE},
)
def exclude_when_null(out: Emitter, value: Node) -> Expr:
    """The value without keys that are null, including nested objects; missing if the value itself is null."""
    return out.call(shapes.without_nulls, out.emit(value).code)
