"""Read paths with jsonpath-ng: a second opinion on every path with more than plain names."""

import warnings
from collections.abc import Iterator
from functools import cache
from typing import Any

from jsonpath_ng import JSONPath
from jsonpath_ng.ext.parser import ExtendedJsonPathParser

from transforms.model.nodes import (
    AllOf,
    AnyOf,
    Children,
    Comparison,
    Descendants,
    Exists,
    Filter,
    Function,
    Index,
    JsonPath,
    Key,
    NoneOf,
    Segment,
    Several,
    Slice,
    Test,
    join_tests,
)


class NotReadError(Exception):
    """jsonpath-ng cannot read the text, or reads something in it that rules do not have."""


def read_path(text: str) -> JsonPath:
    """Return the path that jsonpath-ng reads in a text; raises NotReadError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)
            tree = _parser().parse(text)
    except Exception as error:  # its productions raise anything
        raise NotReadError(type(error).__name__) from error
    return JsonPath(tuple(_segments(tree)))


@cache
def _parser() -> Any:
    return ExtendedJsonPathParser()


def _segments(tree: Any, *, is_first: bool = True) -> Iterator[Segment]:
    """Yield the segments of a tree without its root. A chain of segments leans to the left in it."""
    chain = []
    while type(tree).__name__ in {"Child", "Descendants"}:
        chain.append(tree)
        tree = tree.left
    if not is_first or type(tree).__name__ not in {"Root", "This"}:
        yield _segment(tree)
    for link in reversed(chain):
        if type(link).__name__ == "Descendants":
            yield Descendants()
        yield from _segments(link.right, is_first=False)


def _segment(tree: Any) -> Segment:
    match type(tree).__name__:
        case "Fields" if tree.fields == ("*",):
            return Children()
        case "Fields":
            return Key(tree.fields[0]) if len(tree.fields) == 1 else Several(tuple(tree.fields))
        case "Index":
            return Index(tree.indices[0]) if len(tree.indices) == 1 else Several(tuple(tree.indices))
        case "Slice" if tree.start is tree.end is tree.step is None:
            return Children()
        case "Slice":
            return Slice(tree.start, tree.end, tree.step)
        case "Wildcard":
            return Children()
        case "Filter":
            return Filter(join_tests(AllOf, [_test(expression) for expression in tree.expressions]))
        case "Len":
            return Function("path_length")
        case "Keys":
            return Function("path_keys")
        case "Str":
            return Function("path_text")
        case "Split":
            return Function("path_split", (tree.chars, tree.segment, tree.max_split))
        case kind:
            raise NotReadError(kind)


def _test(tree: Any) -> Test:
    match type(tree).__name__:
        case "And":
            return join_tests(AllOf, [_test(operand) for operand in tree.operands])
        case "Or":
            return join_tests(AnyOf, [_test(operand) for operand in tree.operands])
        case "Expression" if tree.op is None:
            return Exists(_operand(tree.target))
        case "Expression" if tree.op == "!":
            return NoneOf(Exists(_operand(tree.target)))
        case "Expression":
            right = _operand(tree.value) if isinstance(tree.value, JSONPath) else tree.value
            return Comparison(_operand(tree.target), "==" if tree.op == "=" else tree.op, right)
        case _:
            return Exists(_operand(tree))


def _operand(tree: Any) -> JsonPath:
    root = tree
    while hasattr(root, "left"):
        root = root.left
    if type(root).__name__ not in {"Root", "This"}:
        raise NotReadError("a name without `@`")
    return JsonPath(tuple(_segments(tree)), from_root=type(root).__name__ == "Root")
