"""Convert conditions to form rows (field, comparison, value) and back; other conditions stay text."""

import json
from typing import Any, NamedTuple

from deploy.editing.conversions import read_constant, shown_constant
from transforms import RuleError
from transforms.model.nodes import And, Compare, Condition, Contains, Matches, Not, OneOf, Operand, Present
from transforms.syntax.conditions import parse_condition
from transforms.syntax.unparse import condition_text

COMPARISONS = {
    "=": "is",
    "!=": "is not",
    "<": "<",
    "<=": "≤",
    ">": ">",
    ">=": "≥",
    "in": "is one of",
    "contains": "contains",
    "!contains": "does not contain",
    "match": "is like",
    "!match": "is not like",
    "exists": "is there",
    "!exists": "is not there",
}
"""The comparisons with their labels."""

UNARY = ("exists", "!exists")


class ConditionRow(NamedTuple):
    """One test: a field, a key of COMPARISONS, and the value as a user types it."""

    field: str
    comparison: str
    value: str


def read_rows(text: str) -> list[ConditionRow] | None:
    """Return the rows of a condition; None if rows cannot express it."""
    try:
        condition = parse_condition(text)
    except RuleError:
        return None
    rows = [_row(part) for part in (condition.conditions if isinstance(condition, And) else (condition,))]
    return None if any(row is None for row in rows) else [row for row in rows if row]


def write_rows(rows: list[ConditionRow]) -> str:
    """Return the condition of rows; raises ValueError if a row is invalid."""
    text = " and ".join(map(_text, rows))
    try:
        return condition_text(parse_condition(text))
    except RuleError as error:
        raise ValueError(f"The condition is not valid: {error.message}.") from None


def _row(part: Condition) -> ConditionRow | None:
    match part:
        case Compare(operand=operand, operator=operator, value=value):
            return ConditionRow(_field(operand), operator, shown_constant(value))
        case OneOf(operand=operand, values=values):
            return ConditionRow(_field(operand), "in", ", ".join(map(_listed, values)))
        case Contains(operand=operand, text=text, negated=negated):
            return ConditionRow(_field(operand), "!contains" if negated else "contains", text)
        case Matches(operand=operand, pieces=pieces, negated=negated):
            return ConditionRow(_field(operand), "!match" if negated else "match", "*".join(pieces))
        case Present(operand=operand):
            return ConditionRow(_field(operand), "exists", "")
        case Not(condition=Present(operand=operand)):
            return ConditionRow(_field(operand), "!exists", "")
    return None


def _text(row: ConditionRow) -> str:
    field, comparison, value = row
    field = field.strip()
    if comparison not in COMPARISONS or not field:
        raise ValueError("A condition needs a field and a comparison.")
    negation, name = ("!", comparison[1:]) if comparison in ("!contains", "!match", "!exists") else ("", comparison)
    if name == "exists":
        return f"{negation}exists({field})"
    if name in ("contains", "match"):
        return f"{negation}{name}({field}, {_constant(value)})"
    if name == "in":
        items = [read_constant(each.strip()) for each in value.split(",") if each.strip()]
        return f"{field} in [{', '.join(map(_constant, items))}]"
    return f"{field} {name} {_constant(read_constant(value))}"


def _field(operand: Operand) -> str:
    return condition_text(Present(operand)).removeprefix("exists(").removesuffix(")")


def _listed(value: Any) -> str:
    text = shown_constant(value)
    return json.dumps(value) if "," in text else text


def _constant(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
