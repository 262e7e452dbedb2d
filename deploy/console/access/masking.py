"""Mask personal data for viewers, in everything that leaves the console: pages, JSON, streams and downloads.

A page's data is masked as a whole, in every format. Values are found by the names of their fields; the same values are
then masked wherever else they occur, such as in a payload, a vendor's response or a condition. E-mail addresses, card
numbers, and the digests by which vendors recognize persons are masked in every text.
"""

import re
from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import Any

from deploy.dryrun.personal_data import PERSONAL_NAMES
from streams.steps.enrichment.pii import text_masker

MASK = "•••"

MASKED_NAMES = PERSONAL_NAMES | frozenset(
    (
        *("user", "groupid", "distinctid", "clientipaddress", "city", "token"),
        *("em", "ph", "fn", "ln", "ct", "st", "zp", "db", "ge", "madid", "anonid"),
    )
)
"""Names of fields with personal data, without case, `_`, `-` and `$`; all below them is masked too. The short ones are
vendors'.
"""

PERSONAL_OBJECTS = frozenset(("traits", "userdata", "userproperties", "userattributes"))
"""Objects that describe a person; all of their values are masked."""

MIN_CHARACTERS, MIN_DIGITS = 3, 7
"""Shorter texts and numbers are masked in their own field only, because they occur elsewhere by chance."""

MIN_PART = 6
"""Shorter texts are masked as whole words only."""

MAX_CHARACTERS, MAX_VALUES = 500, 2_000
"""Longer values, and more of them, are masked as whole texts only, not within longer ones."""

VALUE_FIELDS = frozenset(("value", "values", "usual_values", "bounds", "usual_bounds", "before", "after"))
"""Fields with values, in an object about one field of an event."""

_SEPARATORS = re.compile("[_$-]")
_INDEX = re.compile(r"\[[^\]]*\]")
_DIGEST = re.compile(r"(?<![0-9A-Za-z])[0-9A-Fa-f]{32,128}(?![0-9A-Za-z])")
_mask_pii = text_masker(MASK)


def mask(data: Any) -> Any:
    """Return a masked copy of JSON data; keys are kept unless they are personal data themselves."""
    return _Masking(data).mask(data, within=_Within.NONE)


def is_personal(path: str) -> bool:
    """Return whether a field holds personal data, by its path: `context.traits.email`, `$.user_data[0].em`."""
    names = {_SEPARATORS.sub("", step).lower() for step in _INDEX.sub("", path).split(".")}
    return not (names.isdisjoint(MASKED_NAMES) and names.isdisjoint(PERSONAL_OBJECTS))


def mask_text(text: str) -> str:
    """Return a text without e-mail addresses, card numbers and digests."""
    text = _mask_pii(text.encode(errors="replace").decode(), True, True)
    return _DIGEST.sub(lambda it: f"{it[0][:4]}…{it[0][-4:]}", text)


class _Within(IntEnum):
    """Which part of nested data is personal."""

    NONE = 0
    ALL = 1
    READS = 2
    """All fields of the values that a directive read, except their paths."""


class _Masking:
    """Masks data with the values of its personal fields."""

    def __init__(self, data: Any) -> None:
        self._values = frozenset(text for text in _personal(data, within=_Within.NONE) if _is_distinctive(text))
        within_texts = sorted((it for it in self._values if len(it) <= MAX_CHARACTERS), key=len, reverse=True)
        pattern = "|".join(map(_as_pattern, within_texts[:MAX_VALUES]))
        self._pattern = re.compile(pattern) if pattern else None

    def mask(self, data: Any, *, within: _Within) -> Any:
        if isinstance(data, Mapping):
            return {
                self._mask_key(key): self.mask(value, within=inside) for key, value, inside in _fields(data, within)
            }
        if isinstance(data, list | tuple):
            return [self.mask(value, within=within) for value in data]
        if data is None or isinstance(data, bool):
            return data
        text = str(data)
        if within or text in self._values:
            return _shortened(text)
        if not isinstance(data, str):
            return data
        return self._mask_text(text)

    def _mask_key(self, key: str) -> str:
        # Our own keys have no digits, and pages need them.
        return self._mask_text(key) if any(it.isdigit() or it == "@" for it in key) else key

    def _mask_text(self, text: str) -> str:
        return mask_text(self._pattern.sub(lambda it: _shortened(it[0]), text) if self._pattern else text)


def _personal(data: Any, *, within: _Within) -> Iterator[str]:
    """Yield the values of personal fields."""
    if isinstance(data, Mapping):
        for _, value, inside in _fields(data, within):
            yield from _personal(value, within=inside)
    elif isinstance(data, list | tuple):
        for value in data:
            yield from _personal(value, within=within)
    elif within and data is not None and not isinstance(data, bool):
        yield str(data)


def _fields(data: Mapping[Any, Any], within: _Within) -> Iterator[tuple[str, Any, _Within]]:
    """Yield the fields of an object, each with which part of it is personal data."""
    if within is _Within.READS:
        yield from ((str(key), value, _Within.NONE if key == "path" else _Within.ALL) for key, value in data.items())
        return
    of_person = _describes_person(data)
    for key, value in data.items():
        name = str(key)
        plain = _SEPARATORS.sub("", name).lower()
        named = plain in MASKED_NAMES or plain in PERSONAL_OBJECTS
        if within or named or (of_person and name in VALUE_FIELDS):
            yield name, value, _Within.ALL
        else:
            yield name, value, _Within.READS if of_person and name == "reads" else _Within.NONE


def _as_pattern(text: str) -> str:
    return re.escape(text) if len(text) >= MIN_PART else rf"(?<!\w){re.escape(text)}(?!\w)"


def _is_distinctive(text: str) -> bool:
    return len(text) >= (MIN_DIGITS if text.isdigit() else MIN_CHARACTERS)


def _describes_person(data: Mapping[str, Any]) -> bool:
    """Return whether an object describes a personal field, by its path or the paths it was made from."""
    path = data.get("field") or data.get("path")
    if isinstance(path, str) and is_personal(path):
        return True
    reads = data.get("reads")
    return isinstance(reads, list) and any(
        isinstance(each, Mapping) and isinstance(each.get("path"), str) and is_personal(each["path"]) for each in reads
    )


def _shortened(text: str) -> str:
    """Replace a text by bullets; longer texts keep their beginning, so that two values can be distinguished."""
    return f"{text[:2]}{MASK}" if len(text) >= 6 else MASK
