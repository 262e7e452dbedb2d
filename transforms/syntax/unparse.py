"""Convert paths and conditions back to text, as a person would write them."""

import json
import re
from typing import Any

from transforms.model.nodes import (
    AllOf,
    And,
    AnyOf,
    Children,
    Compare,
    Comparison,
    Condition,
    Contains,
    Descendants,
    Exists,
    Filter,
    Function,
    Index,
    JsonPath,
    Key,
    Matches,
    NoneOf,
    Not,
    OneOf,
    Operand,
    Or,
    Present,
    Segment,
    Several,
    Slice,
    Test,
)

_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_FUNCTIONS = {"path_length": "len", "path_keys": "keys", "path_text": "str()", "path_split": "split"}


def path_text(path: JsonPath) -> str:
    """Return a path as JSONPath: `$.properties['a name'][0]`."""
    text = "$" if path.from_root else "@"
    for segment in path.segments:
        piece = _segment(segment)
        text += piece.removeprefix(".") if text.endswith("..") else piece
    return text


def condition_text(condition: Condition, *, within: type | None = None) -> str:
    """Return the text of a condition; `within` is the type of the enclosing condition, for parentheses."""
    match condition:
        case And(conditions=parts):
            text = " and ".join(condition_text(part, within=And) for part in parts)
            return f"({text})" if within in (And, Not) else text
        case Or(conditions=parts):
            text = " or ".join(condition_text(part, within=Or) for part in parts)
            return f"({text})" if within else text
        case Not(condition=Present() as inner):
            return f"!{condition_text(inner)}"
        case Not(condition=inner):
            return f"!({condition_text(inner)})"
        case Present(operand=operand):
            return f"exists({_operand(operand)})"
        case Compare(operand=operand, operator=operator, value=value):
            return f"{_operand(operand)} {operator} {_constant(value)}"
        case OneOf(operand=operand, values=values):
            return f"{_operand(operand)} in [{', '.join(map(_constant, values))}]"
        case Contains(operand=operand, text=text, negated=negated):
            return f"{'!' if negated else ''}contains({_operand(operand)}, {_constant(text)})"
        case Matches(operand=operand, pieces=pieces, negated=negated):
            return f"{'!' if negated else ''}match({_operand(operand)}, {_constant('*'.join(pieces))})"


def _operand(operand: Operand) -> str:
    names = [segment.name for segment in operand.path.segments if isinstance(segment, Key)]
    plain = len(names) == len(operand.path.segments) and names and all(map(_PLAIN_NAME.fullmatch, names))
    text = ".".join(names) if plain else path_text(operand.path)
    return f"{operand.through}({text})" if operand.through else text


def _constant(value: Any) -> str:
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return json.dumps(value)


def _segment(segment: Segment) -> str:
    match segment:
        case Key(name=name):
            return f".{name}" if _PLAIN_NAME.fullmatch(name) else f"[{_quoted(name)}]"
        case Index(index=index):
            return f"[{index}]"
        case Several(keys=keys):
            return f"[{','.join(_quoted(key) if isinstance(key, str) else str(key) for key in keys)}]"
        case Slice(start=start, stop=stop, step=step):
            ends = [("" if end is None else str(end)) for end in (start, stop)]
            return f"[{':'.join(ends if step is None else [*ends, str(step)])}]"
        case Children():
            return "[*]"
        case Descendants():
            return ".."
        case Filter(test=test):
            return f"[?({_test(test)})]"
        case Function(name=name, arguments=arguments):
            given = f"({', '.join(map(str, arguments))})" if arguments else ""
            return f".`{_FUNCTIONS[name]}{given}`"


def _quoted(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _test(test: Test) -> str:
    match test:
        case Exists(path=path):
            return path_text(path)
        case NoneOf(test=Exists(path=path)):
            return f"!{path_text(path)}"
        case NoneOf(test=inner):
            return f"!({_test(inner)})"
        case AllOf(tests=tests):
            return " && ".join(f"({_test(each)})" if isinstance(each, AnyOf) else _test(each) for each in tests)
        case AnyOf(tests=tests):
            return " || ".join(map(_test, tests))
        case Comparison(left=left, operator=operator, right=right):
            value = path_text(right) if isinstance(right, JsonPath) else _constant(right)
            return f"{path_text(left)} {operator} {value}"
