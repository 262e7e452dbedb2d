"""Split JSON text into its parts without parsing them, to separate the invalid events of a batch.

Only strings, brackets and commas are recognized. Each part extends to the next comma or closing bracket of its level
and is not validated.
"""

import re

from streams.parsing import lenient_json

_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_SPACE = rb"[ \t\n\r]*+"
_NAME = re.compile(_SPACE + b"(" + _STRING + b")" + _SPACE + b":", re.DOTALL)
_OPEN = re.compile(_SPACE + rb"([\[{])" + _SPACE)
_BLANK = re.compile(_SPACE)
_STOP = re.compile(rb'[^"\[\]{},]*+(?:' + _STRING + rb'[^"\[\]{},]*+)*+[\[\]{},]', re.DOTALL)
_BRACKET = re.compile(rb'[^"\[\]{}]*+(?:' + _STRING + rb'[^"\[\]{}]*+)*+[\[\]{}]', re.DOTALL)
_WRITE_KEY = re.compile(rb'"writeKey"' + _SPACE + b":" + _SPACE + b"(" + _STRING + b")", re.DOTALL)

_KEYS = 100
"""Maximum number of write keys that are looked up for one request."""


def members(text: bytes) -> dict[str, bytes]:
    """Return the text of each value in a JSON object by name; the last one if a name repeats. Raises ValueError."""
    found = {}
    at = _opened(text, b"{")
    while text[at : at + 1] != b"}":
        name = _match(_NAME, text, at)
        value, at = _cut(text, name.end(), b"}")
        found[lenient_json.loads(name[1])] = value
    _check_end(text, at)
    return found


def elements(text: bytes) -> list[bytes]:
    """Return the text of each element of a JSON list; raises ValueError."""
    found = []
    at = _opened(text, b"[")
    while text[at : at + 1] != b"]":
        value, at = _cut(text, at, b"]")
        found.append(value)
    _check_end(text, at)
    return found


def write_keys(text: bytes) -> list[str]:
    """Return possible write keys anywhere in JSON text, to decide whether to run the slow parser."""
    found: dict[str, None] = {}
    for match in _WRITE_KEY.finditer(text):
        try:
            found[lenient_json.loads(match[1])] = None
        except ValueError:
            continue
        if len(found) == _KEYS:
            break
    return list(found)


def _match(pattern: re.Pattern[bytes], text: bytes, at: int) -> re.Match[bytes]:
    match = pattern.match(text, at)
    if match is None:
        raise ValueError(f"not JSON at byte {at}")
    return match


def _opened(text: bytes, bracket: bytes) -> int:
    match = _match(_OPEN, text, 0)
    if match[1] != bracket:
        raise ValueError(f"no {bracket.decode()} at byte 0")
    return match.end()


def _cut(text: bytes, at: int, close: bytes) -> tuple[bytes, int]:
    """Return the value that begins at `at`, and the index of the next part or of the closing bracket."""
    at = _match(_BLANK, text, at).end()
    end = _end(text, at)
    value = text[at:end].rstrip(b" \t\n\r")
    if text[end : end + 1] == b",":
        return value, _match(_BLANK, text, end + 1).end()
    if text[end : end + 1] != close:
        raise ValueError(f"not JSON at byte {end}")
    return value, end


def _end(text: bytes, at: int) -> int:
    """Find the comma or closing bracket that ends the value at `at`."""
    depth = 0
    while True:
        at = _match(_BRACKET if depth else _STOP, text, at).end()
        if text[at - 1] in b"[{":
            depth += 1
        elif depth:
            depth -= 1
        else:
            return at - 1


def _check_end(text: bytes, at: int) -> None:
    if _match(_BLANK, text, at + 1).end() != len(text):
        raise ValueError(f"not JSON at byte {at + 1}")
