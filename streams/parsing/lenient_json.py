"""Read JSON as clients write it, with byte order marks and lone surrogates."""

import re
from typing import Any

import orjson

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

_PAIR = rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_LONE = rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
# The second form is a surrogate encoded as a character, which UTF-8 forbids.
_BYTES = rb"\xed[\xa0-\xbf][\x80-\xbf]"
_OTHER = rb"[^\\\xed]*+"
_UP_TO_LONE = re.compile(
    b"(" + _OTHER + b"(?:(?:" + _PAIR + rb"|(?!" + _LONE + rb")\\.|(?!" + _BYTES + rb")\xed)" + _OTHER + b")*+)"
    b"(?:" + _LONE + b"|" + _BYTES + b")",
    re.DOTALL,
)


def without_mark(text: bytes) -> bytes:
    """Return text without a leading byte order mark."""
    return text.removeprefix(_BYTE_ORDER_MARK)


def loads(text: bytes) -> Any:
    """Parse JSON with U+FFFD in place of each lone surrogate; raises orjson.JSONDecodeError."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        repaired = replace_lone_surrogates(text)
        if repaired == text:
            raise
        return orjson.loads(repaired)


def read_object(text: bytes | None) -> dict[str, Any] | None:
    """Return the object in some bytes that may be anything; None if they are not a JSON object."""
    try:
        data = orjson.loads(text or b"")
    except orjson.JSONDecodeError:
        return None
    return data if isinstance(data, dict) else None


def replace_lone_surrogates(text: bytes) -> bytes:
    r"""Replace each surrogate in JSON text that lacks its other half with `\ufffd`."""
    parts: list[bytes] = []
    at = 0
    while match := _UP_TO_LONE.match(text, at):
        parts += (match[1], rb"\ufffd")
        at = match.end()
    return b"".join((*parts, text[at:]))
