"""Escape text from events, vendors and files so that a terminal shows it and never executes it."""

import json
import re
from typing import Any

import click

_OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
"""Control characters (but tab and line feed), marks of direction, invisible characters and half surrogate pairs."""


def escape(text: str) -> str:
    r"""Write characters that a terminal would obey or not show as `\u001b`, which JSON reads as the same character."""
    return _OBEYED.sub(_escaped, text)


def escape_line(text: object) -> str:
    """Escape a text that is to stay within its line."""
    return escape(str(text)).replace("\n", "\\n").replace("\t", "\\t")


def echo(text: str = "", *, err: bool = False) -> None:
    """Print text; lines in it stay lines."""
    click.echo(escape(text), err=err)


def echo_json(data: Any, *, indent: int | None = 2) -> None:
    """Print data as JSON, which stays the same data."""
    echo(json.dumps(data, indent=indent, ensure_ascii=False))


def _escaped(match: re.Match[str]) -> str:
    return json.dumps(match[0])[1:-1] if match[0] != "\x7f" else "\\u007f"
