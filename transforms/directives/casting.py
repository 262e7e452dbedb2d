"""Directives for casts, dates and hashes. Values that cannot be cast are missing."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from transforms.codegen.emitter import Emitter
from transforms.codegen.writer import Expr
from transforms.directives.arguments import VALUE, checked, choice, optional
from transforms.directives.definition import directive
from transforms.model.nodes import Node
from transforms.runtime import casts, dates, hashes, normalizers


def _cast(out: Emitter, node: Node, function: Callable[..., Any], *types: str) -> Expr:
    """Cast a value; the function is called only if the value does not have one of these types."""
    value = out.variable(node)
    tests = [f"type({value.code}) is not {name}" for name in types]
    if value.missing:
        tests.append(f"{value.code} is not MISSING")
    with out.indented(f"if {' and '.join(tests)}:"):
        out.line(f"{value.code} = {out.function(function)}({value.code})")
    return Expr(value.code, atom=True)


@directive(
    "@number",
    gives="number",
    casts=True,
    short="value",
    arguments={"value": VALUE},
)
def cast_to_number(out: Emitter, value: Node) -> Expr:
    """A number, or text that is a number."""
    return _cast(out, value, casts.number, "float", "int")


@directive(
    "@integer",
    gives="integer",
    casts=True,
    short="value",
    arguments={"value": VALUE},
)
def cast_to_integer(out: Emitter, value: Node) -> Expr:
    """A whole number, or text that is a number; a fraction is cut off."""
    return _cast(out, value, casts.integer, "int")


@directive(
    "@string",
    gives="string",
    casts=True,
    short="value",
    arguments={"value": VALUE},
)
def cast_to_string(out: Emitter, value: Node) -> Expr:
    """The text of a text, number or boolean."""
    return _cast(out, value, casts.string, "str")


@directive(
    "@boolean",
    gives="boolean",
    casts=True,
    short="value",
    arguments={"value": VALUE},
)
def cast_to_boolean(out: Emitter, value: Node) -> Expr:
    """True or false, from booleans, 1 and 0, or the texts `true`, `yes`, `on`, `1` and their opposites."""
    return _cast(out, value, casts.boolean, "bool")


_DATE_FORMATS: dict[str, Callable[[Any], Any]] = {
    "iso": dates.iso_date,
    "unix": dates.unix_seconds,
    "unix_ms": dates.unix_milliseconds,
    "unix_us": dates.unix_microseconds,
}


def _date_format(data: Any) -> str:
    if isinstance(data, str) and data in _DATE_FORMATS:
        return data
    if not isinstance(data, str) or "%" not in data:
        raise ValueError(f"{data!r} is not a date format", f"{', '.join(_DATE_FORMATS)}, or one like %Y-%m-%d")
    if wrong := re.search(r"%(?![YmdHMSfyjzZBbAaIpUuVGW%])", data):
        code = data[wrong.start() : wrong.start() + 2]
        raise ValueError(f"{data!r} has {code}, which is not a strftime code", "one like %Y-%m-%d %H:%M:%S")
    datetime(2026, 1, 2, tzinfo=UTC).strftime(data)
    return data


@directive(
    "@date",
    gives=lambda given: "integer" if str(given.get("to", "iso")).startswith("unix") else "string",
    gives_hints=dict.fromkeys(("number", "integer"), "set to: unix, unix_ms or unix_us"),
    casts=True,
    short="value",
    arguments={
        "value": VALUE,
        "to": optional(checked(_date_format, "iso (the default), unix, unix_ms, unix_us or a strftime format")),
    },
)
def write_date(out: Emitter, value: Node, to: str = "iso") -> Expr:
    """A date in UTC, from ISO 8601 text or a number since 1970 (seconds, milliseconds or microseconds by its size)."""
    if to in _DATE_FORMATS:
        return out.call_if_given(_DATE_FORMATS[to], out.value(value))
    return out.call_if_given(dates.formatted_date, out.value(value), out.constant(to))


def _country_code(data: Any) -> str:
    code = str(data).removeprefix("+") if isinstance(data, str | int) and not isinstance(data, bool) else ""
    if not re.fullmatch(r"[1-9][0-9]{0,3}", code):
        raise ValueError(f"{data!r} is not a country code", "one like 1 or 49")
    return code


def _is_of_a_phone(given: Mapping[str, Any]) -> str | None:
    if not isinstance(given.get("country_code"), str) or given.get("normalize") in normalizers.PHONES:
        return None
    return f"country_code goes with normalize: {' or '.join(normalizers.PHONES)}"


@directive(
    "@hash",
    check=_is_of_a_phone,
    gives="string",
    casts=True,
    hash_algorithm=lambda given: str(given.get("algorithm", "sha256")),
    short="value",
    arguments={
        "value": VALUE,
        "algorithm": optional(choice(*hashes.ALGORITHMS)),
        "normalize": optional(choice(*normalizers.NORMALIZERS)),
        "country_code": optional(checked(_country_code, "country code of phone numbers that have none")),
    },
)
def hash_value(
    out: Emitter, value: Node, algorithm: str = "sha256", normalize: str = "none", country_code: str = ""
) -> Expr:
    """The hash of a text or number in hex. A value that is already such a hash is unchanged; a value that `normalize`
    does not accept is missing.
    """
    return out.call_if_given(
        hashes.hashed,
        out.value(value),
        out.function(hashes.ALGORITHMS[algorithm]),
        out.function(normalizers.NORMALIZERS[normalize]),
        *([out.constant(country_code)] if country_code else []),
    )
