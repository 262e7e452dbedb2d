"""Escape text from events, vendors and files so that a terminal shows it and never executes it."""

import json
import os
import re
import sys
from typing import Any

import click

_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
"""Control characters except tab and line feed, direction marks, invisible characters and lone surrogates."""


def escape(text: str) -> str:
    r"""Escape characters that a terminal would execute or hide, as in `\u001b`, which JSON reads as the character."""
    return _UNSAFE.sub(_escaped, text)


def escape_line(text: object) -> str:
    """Escape a text so that it stays on one line."""
    return escape(str(text)).replace("\n", "\\n").replace("\t", "\\t")


def echo(text: str = "", *, err: bool = False) -> None:
    """Print escaped text; line breaks are kept."""
    click.echo(escape(text), err=err)


def echo_json(data: Any, *, indent: int | None = 2) -> None:
    """Print data as JSON, escaped so that it still parses to the same data."""
    echo(json.dumps(data, indent=indent, ensure_ascii=False))


def write_line(text: str) -> bool:
    """Print one of many lines without flushing; returns False if the pipe is closed, as after `| head`."""
    try:
        sys.stdout.write(f"{text}\n")
    except BrokenPipeError:
        # What is still in the buffer must not fail at the end of the process.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


def _escaped(match: re.Match[str]) -> str:
    return json.dumps(match[0])[1:-1] if match[0] != "\x7f" else "\\u007f"
