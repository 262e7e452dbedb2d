"""Directives for lists."""

from collections.abc import Sequence

from transforms.codegen.emitter import Emitter
from transforms.codegen.writer import Expr
from transforms.directives.arguments import PATH, VALUE, optional
from transforms.directives.definition import directive
from transforms.model.directive import Root
from transforms.model.nodes import Node, ObjectNode
from transforms.runtime import shapes


@directive(
    "@each",
    "@arrayPath",
    gives="array",
    root=Root(argument="shape", at="path", per_item=True),
    from_segment=("@arrayPath",),
    short=("path", "shape"),
    arguments={"path": PATH, "shape": optional(VALUE)},
)
def map_each(out: Emitter, path: Node, shape: Node | None = None) -> Expr:
    """A list with `shape` applied to each item, where its paths start; a single object counts as a list of one."""
    if shape is None or (isinstance(shape, ObjectNode) and not shape.entries):
        return out.emit(path)
    (items,) = write_loop(out, path, [shape])
    return items


def write_loop(out: Emitter, path: Node, shapes: Sequence[Node]) -> Sequence[Expr]:
    """Write one loop that applies several shapes to each item; returns a list for each shape."""
    source = out.value(path)
    lists = [out.assign(source, out.name("items")).code for _ in shapes]
    with out.indented(f"if type({source.code}) is list or type({source.code}) is dict:"):
        for items in lists:
            out.line(f"{items} = []")
        item = out.name("item")
        many = f"{source.code} if type({source.code}) is list else [{source.code}]"
        with out.block(f"for {item} in {many}:"), out.rooted(Expr(item, missing=False, atom=True)):
            for items, shape in zip(lists, shapes, strict=True):
                out.append(items, out.emit(shape))
    return [Expr(items, source.missing, atom=True) for items in lists]


@directive(
    "@pluck",
    gives="array",
    root=Root(argument="path", at="value", per_item=True),
    short=("value", "path"),
    arguments={"value": VALUE, "path": PATH},
)
def pluck(out: Emitter, value: Node, path: Node) -> Expr:
    """The value at a path in each item of a list."""
    return map_each(out, value, path)


@directive(
    "@sum",
    gives="number",
    short="value",
    arguments={"value": VALUE},
)
def add_up(out: Emitter, value: Node) -> Expr:
    """The sum of a list's numbers, including numbers in text; missing if it has no numbers."""
    return out.call(shapes.total, out.emit(value).code)


@directive(
    "@count",
    gives="integer",
    short="value",
    arguments={"value": VALUE},
)
def count(out: Emitter, value: Node) -> Expr:
    """The number of items in a list or keys in an object; 0 for null."""
    return out.call(shapes.count, out.emit(value).code)


@directive(
    "@unique",
    short="value",
    arguments={"value": VALUE},
)
def drop_repeats(out: Emitter, value: Node) -> Expr:
    """A list without duplicates, in order."""
    expr = out.emit(value)
    return out.call(shapes.unique, expr.code, missing=expr.missing)
