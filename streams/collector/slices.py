"""Where the parts of a JSON text lie in it, so that one event of a batch can be kept byte for byte, or be left out.

Only structure is looked at: strings, brackets, commas. What stands between them is for orjson to judge.
"""

import re

import orjson

_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_SPACE = rb"[ \t\n\r]*+"
_NAME = re.compile(_SPACE + b"(" + _STRING + b")" + _SPACE + b":" + _SPACE, re.DOTALL)
_OPEN = re.compile(_SPACE + rb"([\[{])" + _SPACE)
_NEXT = re.compile(_SPACE + rb"([,\]}])" + _SPACE)
_SCALAR = re.compile(_STRING + rb'|[^ \t\n\r"\[\]{},:]++', re.DOTALL)
_BRACKET = re.compile(rb'[^"\[\]{}]*+(?:' + _STRING + rb'[^"\[\]{}]*+)*+[\[\]{}]', re.DOTALL)


def members(text: bytes) -> dict[str, bytes]:
    """The value of each member of a JSON object, as it stands in its text; the last where a name comes twice.

    Raises ValueError.
    """
    found = {}
    at = _opened(text, b"{")
    while text[at : at + 1] != b"}":
        name = _match(_NAME, text, at)
        end = _end(text, name.end())
        found[orjson.loads(name[1])] = text[name.end() : end]
        at = _continued(text, end, b"}")
    return found


def elements(text: bytes) -> list[bytes]:
    """Each element of a JSON list, as it stands in its text; raises ValueError."""
    found = []
    at = _opened(text, b"[")
    while text[at : at + 1] != b"]":
        end = _end(text, at)
        found.append(text[at:end])
        at = _continued(text, end, b"]")
    return found


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


def _continued(text: bytes, at: int, close: bytes) -> int:
    """Where the next part begins after the one that ended at `at`, or where the closing bracket stands."""
    match = _match(_NEXT, text, at)
    if match[1] == b",":
        return match.end()
    if match[1] != close or match.end() != len(text):
        raise ValueError(f"not JSON at byte {at}")
    return match.start(1)


def _end(text: bytes, at: int) -> int:
    if text[at : at + 1] not in (b"[", b"{"):
        return _match(_SCALAR, text, at).end()
    depth = 0
    while True:
        at = _match(_BRACKET, text, at).end()
        depth += 1 if text[at - 1] in b"[{" else -1
        if not depth:
            return at
