"""Personal data where none should be: e-mail addresses and card numbers, masked.

Costs 4 µs; 25 and more where something may have to be masked.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import orjson
import re2
from pydantic import Field

from streams.events import Event
from streams.steps.enrichment.contract import Enrich, Enrichment, Settings
from streams.steps.enrichment.files import Files
from streams.steps.enrichment.patches import Patch

_ENVELOPE = frozenset(
    (
        *("type", "messageId", "userId", "anonymousId", "groupId", "previousId", "writeKey", "integrations", "turnout"),
        *("timestamp", "originalTimestamp", "sentAt", "receivedAt"),
    )
)
"""Fields that say what an event is and whose it is: without a user's id many users would be one."""

Place = tuple[str | int, ...]


def _options() -> Any:
    # UTF-8 as bytes: letters beyond ASCII are bytes above 127, and need no tables of Unicode.
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    return options


# As text and as it stands in URLs.
_EMAIL = re2.compile(
    rb"(?:[A-Za-z0-9._+'\x80-\xff-]|%2[Bb]|%[89A-Fa-f][0-9A-Fa-f])+(?:@|%40)"
    rb"(?:(?:[A-Za-z0-9\x80-\xff-]|%[89A-Fa-f][0-9A-Fa-f])+\.)+[A-Za-z\x80-\xff]{2,}",
    _options(),
)

# 14 to 19 digits that begin as issuers' numbers do, in one run or in the groups in which cards show them.
_CARD = re2.compile(
    rb"\b(?:[2-6][0-9]{13,18}|[2-6][0-9]{3}(?:[ -][0-9]{4}){3}(?:[ -][0-9]{1,3})?"
    rb"|3[0-9]{3}[ -][0-9]{6}[ -][0-9]{4,5})\b",
    _options(),
)

# Most events have no such run of digits, and it is found faster so than by a regular expression.
_DIGITS = bytes(ord("0") if chr(byte).isdecimal() and byte < 128 else byte for byte in range(256))
_FOURTEEN = b"0" * 14


class PiiSettings(Settings):
    """What may stay, and what stands in for the rest."""

    safe: tuple[str, ...] = ("traits.email", "context.traits.email", "properties.email")
    """Places that are left as they are, with all in them: keys joined by dots, `properties.customer`."""

    find: tuple[Literal["email", "card"], ...] = Field(("email", "card"), min_length=1)
    """What is looked for."""

    mask: str = Field("***", min_length=1)
    """What stands in for it."""


def make(settings: PiiSettings, _files: Files) -> Enrich:
    """Mask e-mail addresses and card numbers (by issuer, length and Luhn's sum) in the texts of an event.

    In all of them but ids, times, `integrations` and the places named safe. Keys and numbers are no texts.
    """
    safe = [place.removeprefix("$.").split(".") for place in settings.safe]
    emails, cards = "email" in settings.find, "card" in settings.find
    mask = settings.mask.encode()

    def mask_email(_: Any) -> bytes:
        return mask

    def mask_card(match: Any) -> bytes:
        number: bytes = match.group()
        # Part of a decimal or of a telephone number.
        inside = match.string[match.start() - 1 : match.start()] in (b".", b"+")
        return number if inside or not is_card(number) else mask

    def clean(event: Event) -> Patch | None:
        looked_at = _without(event, safe)
        raw = orjson.dumps(looked_at)
        with_email = emails and (b"@" in raw or (b"%" in raw and b"%40" in raw))
        with_card = cards and _FOURTEEN in raw.translate(_DIGITS, b" -") and _CARD.search(raw) is not None
        if not (with_email or with_card):
            return None
        found: list[tuple[Place, str]] = []
        for place, text in _texts(looked_at):
            cleaned = before = text.encode()
            if with_email and ("@" in text or "%40" in text):
                cleaned = _EMAIL.sub(mask_email, cleaned)
            if with_card and len(text) >= 14:
                cleaned = _CARD.sub(mask_card, cleaned)
            if cleaned != before:
                found.append((place, cleaned.decode()))
        return _patch(event, found) if found else None

    return clean


def is_card(number: bytes) -> bool:
    """Whether a number, with blanks or dashes in it, has the digits that a payment card's have: Luhn's sum is 0."""
    digits = [int(digit) for digit in number.decode() if digit.isdigit()]
    doubled = [digit * 2 - 9 if digit > 4 else digit * 2 for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _without(event: Event, safe: Iterable[Sequence[str]]) -> Event:
    """A copy of an event without its envelope and the safe places; it shares all else with the event."""
    copy = {key: value for key, value in event.items() if key not in _ENVELOPE}
    for *path, last in safe:
        into = copy
        for key in path:
            inner = into.get(key)
            if type(inner) is not dict:
                break
            into[key] = into = inner.copy()
        else:
            into.pop(last, None)
    return copy


def _texts(event: Event) -> Iterator[tuple[Place, str]]:
    """Each text with its place."""
    stack: list[tuple[Place, Any]] = [((), event)]
    while stack:
        place, value = stack.pop()
        for key, each in value.items() if type(value) is dict else enumerate(value):
            kind = type(each)
            if kind is str:
                yield (*place, key), each
            elif kind is dict or kind is list:
                stack.append(((*place, key), each))


def _patch(event: Event, found: Sequence[tuple[Place, str]]) -> Patch:
    """The merge patch that puts texts at their places; a list is replaced as a whole."""
    patch: dict[str, Any] = {}
    for place, text in found:
        into: Any = patch
        there: Any = event
        within_list = False
        for key in place[:-1]:
            there = there[key]
            if not within_list and key not in into:
                within_list = type(there) is list
                into[key] = orjson.loads(orjson.dumps(there)) if within_list else {}
            within_list = within_list or type(there) is list
            into = into[key]
        into[place[-1]] = text
    return patch


PII = Enrichment("pii", PiiSettings, make, replaces=True)
