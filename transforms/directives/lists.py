"""Working on lists."""

from transforms.codegen.emitter import Emitter, Expr
from transforms.directives.definition import PathText, Value, directive
from transforms.runtime import shapes
from transforms.tree import Node, Shape


@directive(
    "@each",
    "@arrayPath",
    summary="A list with each item in a shape whose paths begin at the item; a single object counts as a list of one.",
    short=("path", "shape"),
    path=PathText(),
    shape=Value(required=False),
)
def map_each(out: Emitter, path: Node, shape: Node | None = None) -> Expr:
    if shape is None or (isinstance(shape, Shape) and not shape.entries):
        return out.emit(path)
    source = out.value(path)
    items = out.assign(source, out.name("items"))
    with out.indented(f"if type({source.code}) is list or type({source.code}) is dict:"):
        out.line(f"{items.code} = []")
        item = out.name("item")
        many = f"{source.code} if type({source.code}) is list else [{source.code}]"
        with out.block(f"for {item} in {many}:"), out.rooted(Expr(item, missing=False, atom=True)):
            out.append(items.code, out.emit(shape))
    return Expr(items.code, source.missing, atom=True)


@directive(
    "@pluck",
    summary="What a path finds in each item of a list.",
    short=("value", "path"),
    value=Value(),
    path=PathText(),
)
def pluck(out: Emitter, value: Node, path: Node) -> Expr:
    return map_each(out, value, path)


@directive(
    "@sum",
    summary="The sum of a list's numbers, also those in text; missing if it has none.",
    short="value",
    value=Value(),
)
def add_up(out: Emitter, value: Node) -> Expr:
    return out.call(shapes.total, out.emit(value).code)


@directive("@count", summary="How many items a list or keys an object has; 0 for null.", short="value", value=Value())
def count(out: Emitter, value: Node) -> Expr:
    return out.call(shapes.count, out.emit(value).code)


@directive("@unique", summary="A list without repeats, in order.", short="value", value=Value())
def drop_repeats(out: Emitter, value: Node) -> Expr:
    expr = out.emit(value)
    return out.call(shapes.unique, expr.code, missing=expr.missing)
