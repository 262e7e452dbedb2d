"""Working on objects."""

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
    """One object of all that is nested, keys joined by `separator`; indexes become keys, unless `omitArrays`."""
    code = out.emit(value).code
    return out.call(shapes.flatten, code, out.constant(separator), repr(omitArrays), missing=False)


@directive(
    "@merge",
    gives="object",
    merges="objects",
    arguments={"objects": OBJECTS, "direction": optional(choice("left", "right"))},
)
def merge(out: Emitter, objects: tuple[Node, ...], direction: str = "right") -> Expr:
    """The keys of several objects in one, not deeply; `right` (the default): the last one's values win."""
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
    """A mapping of what another mapping, `apply`, makes of the event."""
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
    """The value without keys that hold null, at any depth of objects; missing if it is null itself."""
    return out.call(shapes.without_nulls, out.emit(value).code)
