"""Convert map values to form fields (a conversion and a path or constant) and back; others stay YAML."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

CONSTANT = "constant"


@dataclass(frozen=True, slots=True)
class Conversion:
    """A conversion: its label, and functions that write a value to YAML and read it back."""

    label: str
    write: Callable[[Any], Any]
    read: Callable[[Any], Any]


def _short(directive: str) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Return the conversion for `{directive: value}`."""

    def read(data: Any) -> Any:
        return data[directive] if isinstance(data, dict) and data.keys() == {directive} else None

    return lambda value: {directive: value}, read


def _long(directive: str, **options: str) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Return the conversion for a directive with a `value` and these options."""

    def read(data: Any) -> Any:
        inner = data.get(directive) if isinstance(data, dict) and len(data) == 1 else None
        if not isinstance(inner, dict) or inner.keys() != {"value", *options}:
            return None
        return inner["value"] if all(inner[name] == value for name, value in options.items()) else None

    first = {name: value for name, value in options.items() if name == "operator"}
    rest = {name: value for name, value in options.items() if name != "operator"}
    return lambda value: {directive: {**first, "value": value, **rest}}, read


_COMMA = {"pattern": ",", "replacement": "."}


def _write_comma(value: Any) -> Any:
    return {"@number": {"@replace": {"value": value, **_COMMA}}}


def _read_comma(data: Any) -> Any:
    inner = data.get("@number") if isinstance(data, dict) else None
    value = inner["@replace"].get("value") if isinstance(inner, dict) and isinstance(inner.get("@replace"), dict) else 0
    return value if data == _write_comma(value) else None


CONVERSIONS: Mapping[str, Conversion] = {
    "as_is": Conversion("as it is", lambda value: value, lambda data: data),
    CONSTANT: Conversion("constant", lambda value: value, lambda _: None),
    "text": Conversion("text", *_short("@string")),
    "number": Conversion("number", *_short("@number")),
    "comma": Conversion("number, decimal comma", _write_comma, _read_comma),
    "integer": Conversion("whole number", *_short("@integer")),
    "boolean": Conversion("true or false", *_short("@boolean")),
    "date": Conversion("date", *_short("@date")),
    "unix": Conversion("Unix time", *_long("@date", to="unix")),
    "lower": Conversion("lower case", *_long("@case", operator="lower")),
    "upper": Conversion("upper case", *_long("@case", operator="upper")),
    "trim": Conversion("trimmed", *_short("@trim")),
    "hash": Conversion("hash", *_short("@hash")),
    "hash_email": Conversion("hash of email", *_long("@hash", normalize="email")),
    "hash_phone": Conversion("hash of phone", *_long("@hash", normalize="phone")),
    "sum": Conversion("sum", *_short("@sum")),
    "count": Conversion("count", *_short("@count")),
}


def is_path(data: Any) -> bool:
    """Return whether a value is written as a path."""
    return isinstance(data, str) and (data == "$" or data.startswith(("$.", "$[")))


def read_value(data: Any) -> tuple[str, str] | None:
    """Return the conversion and the path or constant of a value in a map; None if a form cannot show it."""
    if not isinstance(data, dict | list):
        if is_path(data):
            return "as_is", data
        return None if isinstance(data, str) and "{{" in data else (CONSTANT, shown_constant(data))
    for name, conversion in CONVERSIONS.items():
        if name not in ("as_is", CONSTANT) and is_path(value := conversion.read(data)):
            return name, value
    return None


def write_value(conversion: str, value: str, before: Any = None) -> Any:
    """Return the value to write into a map; raises ValueError if the conversion needs a path.

    A constant that was text stays text; otherwise numbers, `true`, `false` and `null` get their JSON types.
    """
    if conversion not in CONVERSIONS:
        raise ValueError(f"{conversion!r} is not a conversion.")
    if conversion == CONSTANT:
        constant = value if isinstance(before, str) and not is_path(before) else read_constant(value)
        is_literal = isinstance(constant, str) and (constant.strip().startswith("$") or "{{" in constant)
        return {"@literal": constant} if is_literal else constant
    if not is_path(value):
        raise ValueError(f"{value!r} is not a path. Paths begin with `$.`; click a field of the event.")
    return CONVERSIONS[conversion].write(value)


def shown_constant(value: Any) -> str:
    """Return a constant as a form shows it: text without quotes, unless it looks like something else."""
    return value if isinstance(value, str) and isinstance(read_constant(value), str) else json.dumps(value)


def read_constant(text: str) -> Any:
    """Return the constant that a user typed: JSON's scalars, else text."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return text if isinstance(value, dict | list) else value
