"""Generate code for conditions: one boolean expression, after the statements that read its fields."""

from typing import Any

from transforms.codegen.emitter import Emitter
from transforms.codegen.writer import Expr
from transforms.model.nodes import And, Compare, Condition, Contains, Matches, Not, OneOf, Operand, Or, Present
from transforms.model.values import words
from transforms.runtime.comparisons import length, lowercase
from transforms.runtime.text import glob


def test(out: Emitter, condition: Condition) -> str:
    """Return the expression for a condition; it can be part of another expression."""
    match condition:
        case And(conditions=conditions):
            return f"({' and '.join(test(out, each) for each in conditions)})"
        case Or(conditions=conditions):
            return f"({' or '.join(test(out, each) for each in conditions)})"
        case Not(condition=inner):
            return f"(not {test(out, inner)})"
        case Present(operand=operand):
            return _present(out, operand)
        case Compare(operand=operand, operator=operator, value=value):
            return _compare(out, operand, operator, _constant(operand, value))
        case OneOf(operand=operand, values=values):
            return _one_of(out, operand, tuple(_constant(operand, value) for value in values))
        case Contains(operand=operand, text=text, negated=negated):
            value = _read(out, operand).code
            text = _constant(operand, text)
            return f"(type({value}) is str and {out.constant(text)} {'not in' if negated else 'in'} {value})"
        case Matches(operand=operand, pieces=pieces, negated=negated):
            value = _read(out, operand).code
            pieces = tuple(_constant(operand, piece) for piece in pieces)
            test_ = _matches(out, value, pieces)
            return f"(type({value}) is str and {'not ' if negated else ''}{test_})"


def _constant(operand: Operand, value: Any) -> Any:
    """Return a constant normalized like the operand for the comparison."""
    return words(value) if operand.through == "words" else value


def _read(out: Emitter, operand: Operand) -> Expr:
    """Read the operand's value into a variable; comparisons treat missing as null."""
    if operand.through is None:
        return out.named(operand.path, "None")
    function = {"length": length, "lowercase": lowercase, "words": words}[operand.through]
    return out.call_once(function, out.named(operand.path, "None"))


def _present(out: Emitter, operand: Operand) -> str:
    if not operand.path.singular:
        return f"({_read(out, operand).code} != [])"
    return f"(not {_is_null(_read(out, operand))})"


def _is_null(value: Expr) -> str:
    return f"({value.code} is None or {value.code} is MISSING)" if value.missing else f"({value.code} is None)"


def _compare(out: Emitter, operand: Operand, operator: str, constant: Any) -> str:
    if operator == "=":
        return _equals(out, _read(out, operand), constant)
    if operator == "!=":
        return f"(not {_equals(out, _read(out, operand), constant)})"
    value = _read(out, operand).code
    return f"({_is_number(value)} and {value} {operator} {constant!r})"


def _equals(out: Emitter, operand: Expr, constant: Any) -> str:
    value = operand.code
    if constant is None:
        return _is_null(operand)
    if isinstance(constant, bool):
        return f"({value} is {constant!r})"
    if isinstance(constant, str):
        return f"({value} == {out.constant(constant)})"
    return f"({_is_number(value)} and {value} == {constant!r})"


def _is_number(value: str) -> str:
    return f"(type({value}) is int or type({value}) is float)"


def _one_of(out: Emitter, operand: Operand, constants: tuple[Any, ...]) -> str:
    read = _read(out, operand)
    value = read.code
    texts = frozenset(constant for constant in constants if isinstance(constant, str))
    tests = [f"type({value}) is str and {value} in {out.constant(texts, 'ONE_OF')}"] if texts else []
    tests += [_equals(out, read, constant) for constant in constants if not isinstance(constant, str)]
    return f"({' or '.join(tests)})"


def _matches(out: Emitter, value: str, pieces: tuple[str, ...]) -> str:
    match pieces:
        case [only]:
            return f"({value} == {out.constant(only)})"
        case [start, ""]:
            return f"{value}.startswith({out.constant(start)})"
        case ["", end]:
            return f"{value}.endswith({out.constant(end)})"
        case ["", within, ""]:
            return f"({out.constant(within)} in {value})"
    return f"{out.function(glob)}({value}, ({', '.join(out.constant(piece) for piece in pieces)},))"
