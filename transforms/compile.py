"""Compile one mapping or condition to a function."""

from collections.abc import Callable
from typing import Any

from transforms.codegen import conditions
from transforms.codegen.emitter import Emitter
from transforms.directives import DIRECTIVES
from transforms.documents import Document, Location, RuleError
from transforms.model.nodes import Node
from transforms.syntax.conditions import parse_condition
from transforms.syntax.parser import Parser

# Segment's kit keeps a directive for the whole mapping under this key.
_ROOT_DIRECTIVE = "__segment_internal_directive"


def compile_mapping(mapping: Any, *, source: Document | str | None = None) -> Callable[[Any], Any]:
    """Compile a mapping to a function that maps an event (an object) to a value, which may be MISSING.

    The function never raises for an object and never changes it; its result may share parts with it.

    Args:
        mapping: Plain data as read from YAML or JSON.
        source: The document of the mapping, for the position of errors, or the name of its file.

    Raises:
        RuleError: The mapping has an error.
    """
    document = source if isinstance(source, Document) else None
    title = document.path if document else str(source or "mapping")
    errors: list[RuleError] = []
    try:
        node = Parser(errors, DIRECTIVES).value(_with_root_directive(mapping), Location(document))
        if errors:
            raise errors[0]
        return compile_node(node, title)
    except RuleError as error:
        error.path = error.path or (title if source else None)
        raise


def compile_condition(text: str) -> Callable[[Any], bool]:
    """Compile a condition to a function that returns whether an event (an object) fulfils it. Raises RuleError."""
    if not isinstance(text, str):
        raise RuleError(f"a condition is a string, not {Parser.type_of(text)}")
    condition = parse_condition(text)
    out = Emitter()
    with out.function_body("def condition(event):"):
        with out.indented("if type(event) is not dict:"):
            out.line("return False")
        out.line(f"return {conditions.test(out, condition)}")
    function: Callable[[Any], bool] = out.compile("condition").namespace["condition"]
    return function


def compile_node(node: Node, title: str) -> Callable[[Any], Any]:
    """Compile a parsed mapping to a function of an event."""
    out = Emitter()
    with out.function_body("def mapping(event):"):
        with out.indented("if type(event) is not dict:"):
            out.line(f"{out.function(refuse)}(event)")
        out.line(f"return {out.emit(node).code}")
    function: Callable[[Any], Any] = out.compile(title).namespace["mapping"]
    return function


def refuse(event: Any) -> None:
    """Raise RuleError for an event that is not an object."""
    raise RuleError(f"an event is an object, not {Parser.type_of(event)}")


def _with_root_directive(mapping: Any) -> Any:
    if not isinstance(mapping, dict) or _ROOT_DIRECTIVE not in mapping:
        return mapping
    rest = {key: value for key, value in mapping.items() if key != _ROOT_DIRECTIVE}
    root = mapping[_ROOT_DIRECTIVE]
    if isinstance(root, dict) and len(root) == 1 and isinstance(options := next(iter(root.values())), dict):
        return {next(iter(root)): {**options, "mapping": rest}}
    raise RuleError(f"{_ROOT_DIRECTIVE} is an object with one directive", "write the directive around the mapping")
