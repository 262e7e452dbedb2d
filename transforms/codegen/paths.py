"""Generate code for paths that can match several places: one list comprehension each."""

from collections.abc import Callable
from typing import Any

from transforms.codegen.writer import Writer
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
)
from transforms.runtime import access
from transforms.runtime.comparisons import equal, less
from transforms.runtime.text import search, text
from transforms.syntax.regular_expressions import compile_expression

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "path_length": access.path_length,
    "path_keys": access.path_keys,
    "path_split": access.path_split,
    "path_text": text,
}


def split(segments: tuple[Segment, ...]) -> tuple[tuple[Segment, ...], tuple[Segment, ...]]:
    """Split segments into the part that matches one place, and the rest."""
    for number, segment in enumerate(segments):
        if not isinstance(segment, Key | Index | Function):
            return segments[:number], segments[number:]
    return segments, ()


def matches(out: Writer, base: str, segments: tuple[Segment, ...]) -> str:
    """Return the expression for the list of all matches, starting at a value."""
    clauses: list[str] = []
    value = base
    for number, segment in enumerate(segments):
        last = number == len(segments) - 1
        if isinstance(segment, Key) and last and clauses:
            name = out.constant(segment.name)
            return f"[{value}[{name}] {' '.join(clauses)} if type({value}) is dict and {name} in {value}]"
        source, test = _source(out, segment, value)
        value = out.name("each")
        clauses.append(f"for {value} in {source}")
        if test is not None:
            clauses.append(f"if {_test(out, test, value)}")
    return f"[{value} {' '.join(clauses)}]"


def _source(out: Writer, segment: Segment, value: str) -> tuple[str, Test | None]:
    match segment:
        case Key(name=name):
            return _found(out, f"{out.function(access.child)}({value}, {out.constant(name)})"), None
        case Index(index=index):
            return _found(out, f"{out.function(access.item)}({value}, {index!r})"), None
        case Several(keys=keys):
            listed = ", ".join(out.constant(key) for key in keys)
            return f"{out.function(access.pick)}({value}, ({listed},))", None
        case Slice(start=start, stop=stop, step=step):
            return f"{out.function(access.cut)}({value}, {start!r}, {stop!r}, {step!r})", None
        case Children():
            return f"{out.function(access.children)}({value})", None
        case Descendants():
            return f"{out.function(access.descendants)}({value})", None
        case Filter(test=test):
            return f"{out.function(access.children)}({value})", test
        case Function():
            return _found(out, _function(out, segment, value)), None


def _found(out: Writer, code: str) -> str:
    return f"{out.function(access.found)}({code})"


def _function(out: Writer, segment: Function, value: str) -> str:
    arguments = [value, *(out.constant(each) for each in segment.arguments)]
    return f"{out.function(FUNCTIONS[segment.name])}({', '.join(arguments)})"


def _test(out: Writer, test: Test, value: str) -> str:
    match test:
        case AllOf(tests=tests):
            return f"({' and '.join(_test(out, each, value) for each in tests)})"
        case AnyOf(tests=tests):
            return f"({' or '.join(_test(out, each, value) for each in tests)})"
        case NoneOf(test=inner):
            return f"(not {_test(out, inner, value)})"
        case Exists(path=path):
            return f"({_one(out, path, value)} is not MISSING)" if path.singular else _all(out, path, value)
        case Comparison():
            return _comparison(out, test, value)


def _comparison(out: Writer, test: Comparison, value: str) -> str:
    left = _one(out, test.left, value)
    if test.operator == "=~":
        pattern = out.constant(compile_expression(str(test.right)), "PATTERN")
        return f"{out.function(search)}({left}, {pattern})"
    right = _one(out, test.right, value) if isinstance(test.right, JsonPath) else out.constant(test.right)
    same = f"{out.function(equal)}({left}, {right})"
    match test.operator:
        case "==":
            return same
        case "!=":
            return f"(not {same})"
        case "<":
            return f"{out.function(less)}({left}, {right})"
        case ">":
            return f"{out.function(less)}({right}, {left})"
        case "<=":
            return f"({out.function(less)}({left}, {right}) or {same})"
        case ">=":
            return f"({out.function(less)}({right}, {left}) or {same})"
    raise ValueError(test.operator)


def _one(out: Writer, path: JsonPath, value: str) -> str:
    """Return the expression for the value at a singular path."""
    code = out.root.code if path.from_root else value
    for segment in path.segments:
        match segment:
            case Key(name=name):
                code = f"{out.function(access.child)}({code}, {out.constant(name)})"
            case Index(index=index):
                code = f"{out.function(access.item)}({code}, {index!r})"
            case Function():
                code = _function(out, segment, code)
    return code


def _all(out: Writer, path: JsonPath, value: str) -> str:
    return matches(out, out.root.code if path.from_root else value, path.segments)
