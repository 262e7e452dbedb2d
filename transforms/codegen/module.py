"""Generate one module per rule file: a function for each rule, and `apply`, which finds the rules for an event."""

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, Final

from transforms.codegen import conditions
from transforms.codegen.emitter import Emitter
from transforms.codegen.rule_index import ByEvent, derive_selector, make_table
from transforms.codegen.writer import Module
from transforms.model.nodes import And, Condition, ObjectNode, Rule
from transforms.model.values import words
from transforms.syntax.parser import Parser


class Drop(Enum):
    """The type of DROP, the result of a rule that does not send the event."""

    DROP = "drop"

    def __repr__(self) -> str:
        return "DROP"


DROP: Final = Drop.DROP


class NoObjectError(Exception):
    """An event or the result of a map is not an object."""


_FIND = """
def apply(event):
    try:
        by_event, by_words, others = BY_TYPE.get(event.get('type'), OTHER_TYPES)
        name = event.get('event')
        rules = by_event.get(name) or (by_words.get(words(name), others) if by_words else others)
    except (AttributeError, TypeError):
        rules = unusual(event, BY_TYPE, OTHER_TYPES)"""
_FIRST = """
    for name, rule in rules:
        try:
            payload = rule(event)
        except Exception as error:
            payload = failure(name, error)
        if payload is not None:
            return ((name, payload),)
"""
_ALL = """
    payloads = []
    for name, rule in rules:
        if rule is otherwise and payloads:
            break
        try:
            payload = rule(event)
        except Exception as error:
            payload = failure(name, error)
        if payload is not None:
            payloads.append((name, payload))
    return payloads
"""


def compile_rules(
    rules: Sequence[Rule],
    otherwise: Rule | None,
    failure: Callable[[str, Exception], Any],
    title: str,
    *,
    match_all: bool,
) -> Module:
    """Compile the rules of a file. `failure(rule name, exception)` returns the result of a rule that raised."""
    out = Emitter()
    for number, rule in enumerate(rules, 1):
        _rule_function(out, rule, f"rule_{number}")
    _rule_function(out, otherwise, "otherwise")
    out.place = None
    for line in (_FIND + (_ALL if match_all else _FIRST)).strip().splitlines():
        out.line(line)
    caught = {error.__name__: error for error in (AttributeError, TypeError, Exception)}
    out.namespace |= {"failure": failure, "unusual": _unusual, "words": words, "DROP": DROP, **caught}
    module = out.compile(title)
    functions = [(rule.name, module.namespace[f"rule_{number}"]) for number, rule in enumerate(rules, 1)]
    last = ("otherwise" if otherwise else "", module.namespace["otherwise"])
    selectors = [derive_selector(rule.condition) for rule in rules] + [derive_selector(None)]
    by_type, other_types = make_table(selectors, [*functions, last])
    module.namespace |= {"BY_TYPE": by_type, "OTHER_TYPES": other_types}
    module.namespace["find"] = lambda event: _unusual(event, by_type, other_types)
    return module


def _rule_function(out: Emitter, rule: Rule | None, name: str) -> None:
    """Write a function that returns the payload of an event, or None if the rest of the condition is false."""
    out.place = rule.place if rule else None
    with out.function_body(f"def {name}(event):"):
        if rule:
            out.line(repr(rule.name))
            _return_unless(out, derive_selector(rule.condition).rest)
        if rule is None or rule.shape is None:
            out.line("return DROP")
        elif isinstance(rule.shape, ObjectNode):
            out.line(f"return {out.emit(rule.shape).code}")
        else:
            out.line(f"return {out.call(_object, out.emit(rule.shape).code).code}")
    out.line()
    out.line()


def _return_unless(out: Emitter, condition: Condition | None) -> None:
    for each in condition.conditions if isinstance(condition, And) else [condition] if condition else []:
        with out.indented(f"if not {conditions.test(out, each)}:"):
            out.line("return None")


def _object(payload: Any) -> Any:
    if type(payload) is not dict:
        raise NoObjectError(f"the map gave {Parser.type_of(payload)}, not an object")
    return payload


def _refuse(event: Any) -> None:
    raise NoObjectError(f"the event is {Parser.type_of(event)}, not an object")


def _unusual(event: Any, by_type: Mapping[Any, ByEvent], other_types: ByEvent) -> Sequence[Any]:
    """Return the rules for any event, also if its type or name is a list or object, or if it is not an object."""
    if type(event) is not dict:
        return (("", _refuse),)
    kind, name = event.get("type"), event.get("event")
    by_event, by_words, others = by_type.get(kind, other_types) if isinstance(kind, str) else other_types
    return (by_event.get(name) or by_words.get(words(name), others)) if isinstance(name, str) else others
