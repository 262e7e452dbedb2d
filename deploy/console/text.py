"""Format text for pages: numbers, durations, and JSON as code."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from typing import Any, NamedTuple

import yaml

from transforms.model.nodes import Index, JsonPath, Key
from transforms.syntax.unparse import path_text

MAX_TEXT = 2_000
"""Characters of one value that a page shows; the JSON form has all."""

MAX_CODE_TEXT = 500
"""Characters of one value within JSON."""

MAX_LINES = 1_500
"""Lines of JSON that a page shows."""

_PLAIN_KEY = re.compile(r"[A-Za-z_$][\w$]*", re.ASCII)
_DIGEST = re.compile(r"\b[0-9a-f]{32,128}\b")
_INDEX = re.compile(r"\[[^\]]*\]")


class CodeToken(NamedTuple):
    """A piece of code: its text, its CSS class, and the path of the field whose value it is.

    `jsonpath` is the path as rules write it, with indexes.
    """

    text: str
    kind: str = ""
    path: str = ""
    jsonpath: str = ""


def number(value: float | None) -> str:
    """Return a number with thousands separators; a dash if it is unknown."""
    return "\u2013" if value is None else f"{value:,}"


def percent(share: float) -> str:
    """Return a share as a percentage: `61%`, `0.4%`, and `<0.1%` instead of zero."""
    if share >= 0.0995 or not share:
        # Not all is less than all.
        return f"{min(share, 0.99 if share < 1 else 1):.0%}"
    return f"{share:.1%}" if share >= 0.001 else "<0.1%"


def duration(milliseconds: float | None) -> str:
    """Return a duration in one or two units: `12 ms`, `0.3 s`, `41 s`, `1 h 22 min`, `3 d 4 h`."""
    if milliseconds is None:
        return ""
    if milliseconds < 100:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    if seconds < 60:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if hours < 24:
        return f"{hours} h {minutes % 60} min" if minutes % 60 else f"{hours} h"
    return f"{hours // 24} d {hours % 24} h" if hours % 24 else f"{hours // 24} d"


def clip(text: str, length: int = MAX_TEXT) -> str:
    """Shorten a long text to its beginning, followed by the number of characters left out."""
    return text if len(text) <= length else f"{text[:length]}… {len(text) - length:,} more characters"


def as_code(value: Any) -> str:
    """Return a value as JSON on one line, truncated if it is long."""
    return clip(json.dumps(value, ensure_ascii=False))


def brief(value: Any, length: int = 90) -> str:
    """Return a value as JSON on one line, short enough for a table: digests keep their ends only."""
    text = json.dumps(value, ensure_ascii=False)
    return clip(_DIGEST.sub(lambda it: f"{it[0][:4]}…{it[0][-4:]}", text), length)


def field_key(path: str) -> str:
    """Return the key that links a field with the payload fields made from it: its path without `$.` and indices."""
    return _INDEX.sub("[]", path.removeprefix("$").removeprefix("."))


def field_id(path: str) -> str:
    """Return an element ID for a field, without characters that are allowed only in paths."""
    return f"e-{sha256(field_key(path).encode(errors='replace')).hexdigest()[:10]}"


def tokens(value: Any) -> Iterator[CodeToken]:
    """Yield JSON, indented, as pieces of code; the values of fields have their paths."""
    lines = 0
    for token in _tokens(value, "", "\n", ()):
        yield token
        lines += token.text.count("\n")
        if lines >= MAX_LINES:
            yield CodeToken("\n… the JSON form of this page has the rest", "c")
            return


def _tokens(value: Any, path: str, newline: str, at: tuple[Key | Index, ...]) -> Iterator[CodeToken]:
    if isinstance(value, Mapping) and value:
        yield CodeToken("{")
        for position, (key, inner) in enumerate(value.items()):
            name = str(key)
            shown = name if _PLAIN_KEY.fullmatch(name) else json.dumps(clip(name), ensure_ascii=False)
            yield CodeToken(f"{',' if position else ''}{newline}  {shown}: ")
            yield from _tokens(inner, f"{path}.{name}" if path else name, f"{newline}  ", (*at, Key(name)))
        yield CodeToken(f"{newline}}}")
    elif isinstance(value, list) and value:
        # Objects of a list begin on its line.
        on_lines = any(isinstance(inner, list) and inner for inner in value)
        yield CodeToken("[")
        for position, inner in enumerate(value):
            comma = "," if position else ""
            yield CodeToken(f"{comma}{newline}  " if on_lines else f"{comma} " if position else "")
            yield from _tokens(inner, f"{path}[]", f"{newline}  " if on_lines else newline, (*at, Index(position)))
        yield CodeToken(f"{newline}]" if on_lines else "]")
    else:
        text = clip(json.dumps(value, ensure_ascii=False), MAX_CODE_TEXT)
        kind = "mask" if "•••" in text else "s" if isinstance(value, str) else "d"
        yield CodeToken(text, kind, path, path_text(JsonPath(at)) if at else "")


def place(where: str | None) -> str:
    """Return a file and line in their shortest clear form: `preset:81`, `meta.yaml:12`."""
    preset, _, line = (where or "").rpartition(":")
    return f"preset:{line}" if preset.startswith("preset ") else (where or "").removeprefix("integrations/")


def path_steps(path: str) -> list[str]:
    """Return the parts of a path between which lines may break: after its dots and before its brackets."""
    return re.split(r"(?<=\.)|(?=\[)", path)


def css(outcome: str) -> str:
    """Return a name that is safe as a CSS class."""
    return re.sub("[^a-z_]", "", outcome.lower())


WORDS: Mapping[str, str] = {"consent": "no consent", "opted_out": "opted out", "forwarded": "waiting"}


def word(outcome: str) -> str:
    """Return an outcome's name for users."""
    return WORDS.get(outcome, outcome)


def as_test(story: Mapping[str, Any]) -> str:
    """Return the event of a story as a test of a rule file, in YAML."""
    case = {"name": story["event"] or story["type"] or "event", "source": story["source"], "event": story["received"]}
    return yaml.safe_dump([{key: value for key, value in case.items() if value}], sort_keys=False, allow_unicode=True)


FILTERS: Mapping[str, Callable[..., Any]] = {
    "number": number,
    "percent": percent,
    "duration": duration,
    "clip": clip,
    "code": as_code,
    "brief": brief,
    "tokens": tokens,
    "field_key": field_key,
    "field_id": field_id,
    "as_test": as_test,
    "place": place,
    "path_steps": path_steps,
    "css": css,
    "word": word,
}
