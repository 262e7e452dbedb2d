"""Normalize a vendor's message, so that equal failures share a group and no person's data is kept.

A message may quote the rejected event, so numbers, IDs, addresses, quoted texts and every word of the payload become
`…`. Common words of error messages stay.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from html import unescape
from itertools import islice
from typing import Any

import orjson

MAX_MESSAGE_CHARACTERS = 160
MAX_READ_CHARACTERS = 4096
MAX_WORD_CHARACTERS = 40
MAX_PAYLOAD_WORDS = 5000
MAX_PARTS = 12
MAX_DEPTH = 6
"""Bounds of the work for one message, and of its result."""

CUT = "…"

COMMON_WORDS = frozenset(
    """
    a access account action after allowed already an and api are array as at attribute authentication authorization bad
    be been before belong blank body boolean bounds by can cannot cause character characters check client code consent
    contact contain contains correct could currency customer data date deactivated deleted denied detail details did
    disabled does doesn't domain duplicate email empty enabled entity error errors event events exceed exceeded exceeds
    exist existing exists expected expired failed failure field fields file for forbidden format found from future
    gateway greater has have header host http https id identifier if in integer internal invalid is isn't it item items
    json key keys large length less level limit list long malformed many match maximum may message method minimum
    missing more must name no not null number object of old on one only or out page param parameter parse parsing past
    pattern payload permission phone pixel please property provided query quota range rate read reason received refused
    reject rejected request requests required resource response retry revoked rule schema scope server service should
    size source status string subscribed suppressed supported temporarily than that the there this time timeout
    timestamp to token too track type unable unauthorized unavailable unexpected unique unknown unprocessable
    unsupported url user users valid validation value values version was were when with without wrong you your
    """.split()  # noqa: SIM905  # a literal would have 200 lines
)
"""Words that say nothing about a person; they stay even if the payload has them."""

_MARKUP = re.compile(r"<(script|style)\b.*?(</\1>|$)|<[^>]*(>|$)", re.DOTALL | re.IGNORECASE)
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.DOTALL | re.IGNORECASE)
_QUOTED = re.compile(r"""(["“”`])(.*?)(?:["“”`]|$)|(?<![^\W_])'(.*?)(?:'(?![^\W_])|$)""", re.DOTALL)
_WORD = re.compile(r"[^\s,;:()\[\]{}<>=|/\\]+")
_ADDRESS = re.compile(r"\S+://\S+|\S*@\S+")
_PLAIN = re.compile(r"[A-Za-z_$%.'\u2019&*+!?-]+")
_ACRONYM = re.compile(r"[A-Z]{2,5}")
_NAME = re.compile(r"[A-Za-z_$][A-Za-z_$.\[\]-]{0,39}")


def normalize_message(text: str, payload: Any, user: str | None = None) -> str:
    """Replace the parts of a message that differ between events.

    Args:
        text: The message: plain text, JSON or HTML.
        payload: The payload that was sent. The words of its values are replaced. Without it (None) only common words
            stay.
        user: The user's ID, which is also replaced.

    """
    words = set(islice(_value_words(payload), MAX_PAYLOAD_WORDS))
    if user:
        words.update(_words(user))
    names = {name.lower() for name in islice(_names(payload), MAX_PAYLOAD_WORDS)}
    cleaner = _Cleaner(words - COMMON_WORDS, names, strict=payload is None)
    text = text[:MAX_READ_CHARACTERS]
    if text.lstrip()[:1] in ("{", "["):
        try:
            data = orjson.loads(text)
        except orjson.JSONDecodeError:
            return cleaner.clean(text)
        return _cut("; ".join(dict.fromkeys(islice(cleaner.parts(data), MAX_PARTS))))
    if text.lstrip()[:1] == "<":
        title = _TITLE.search(text)
        text = unescape(title[1] if title else _MARKUP.sub(" ", text))
    return cleaner.clean(text)


class _Cleaner:
    """Replaces all words of a text that may be specific to one event.

    Args:
        secret: Words to replace, in lower case.
        names: Names of properties that were sent, in lower case; they stay unless they are also values.
        strict: Replace all words but common ones.

    """

    def __init__(self, secret: set[str], names: set[str], *, strict: bool) -> None:
        self._secret, self._allowed, self._strict = secret, COMMON_WORDS | (names - secret), strict

    def parts(self, data: Any, name: str = "", depth: int = 0) -> Iterator[str]:
        """Return the texts in JSON data, each with the name of its property."""
        if depth > MAX_DEPTH:
            return
        if isinstance(data, Mapping):
            for key, value in data.items():
                yield from self.parts(value, self._name(key), depth + 1)
        elif isinstance(data, list):
            for value in data:
                yield from self.parts(value, name, depth + 1)
        else:
            text = self.clean(data, starts=" " in data) if isinstance(data, str) else CUT
            if isinstance(data, bool) or data is None:
                text = {True: "true", False: "false", None: "null"}[data]
            if text:
                yield f"{name}: {text}" if name else text

    def clean(self, text: str, *, starts: bool = True) -> str:
        """Return a text with CUT for each word that is replaced; `starts` allows a capital letter at its start."""
        text = _ADDRESS.sub(CUT, text)
        text = _QUOTED.sub(self._unquoted, text)
        found, first = [], starts
        end = 0
        for match in _WORD.finditer(text):
            found.append(re.sub(r"\s+", " ", text[end : match.start()]))
            word = match[0]
            found.append(word if self._stays(word, first=first) else CUT)
            first = word.endswith((".", "!", "?"))
            end = match.end()
        found.append(re.sub(r"\s+", " ", text[end:]))
        return _cut("".join(found))

    def _name(self, key: str) -> str:
        return key if _NAME.fullmatch(key) and self._stays(key, first=True) else CUT

    def _unquoted(self, match: re.Match[str]) -> str:
        inner = match[2] if match[2] is not None else match[3] or ""
        words = [word.lower() for word in _WORD.findall(inner)]
        return f" {inner} " if words and all(word in self._allowed for word in words) else f" {CUT} "

    def _stays(self, word: str, *, first: bool) -> bool:
        plain = word.strip(".!?'\u2019").lower()
        if plain in COMMON_WORDS:
            return True
        if self._strict or len(word) > MAX_WORD_CHARACTERS or not _PLAIN.fullmatch(word):
            return False
        if plain in self._secret or any(part in self._secret for part in _words(plain)):
            return False
        if plain in self._allowed or _ACRONYM.fullmatch(word):
            return True
        # A capital letter within a sentence often begins a person's name.
        return first or word[0].islower() or word[0] in "$_"


def _cut(text: str) -> str:
    """Join neighbouring CUTs, and shorten the text."""
    text = re.sub(rf"{CUT}(?:[\s.,/\\()\[\]-]*{CUT})+", CUT, " ".join(text.split()))
    text = re.sub(r" ([,;:.])", r"\1", text)
    return text if len(text) <= MAX_MESSAGE_CHARACTERS else text[: MAX_MESSAGE_CHARACTERS - 1].rstrip() + CUT


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[\W_]+", text.lower()) if word]


def _leaves(data: Any, depth: int = 0) -> Iterator[tuple[str, Any]]:
    if depth > 2 * MAX_DEPTH:
        return
    if isinstance(data, Mapping):
        for name, value in data.items():
            yield str(name), None
            yield from _leaves(value, depth + 1)
    elif isinstance(data, list | tuple):
        for value in data:
            yield from _leaves(value, depth + 1)
    else:
        yield "", data


def _value_words(payload: Any) -> Iterable[str]:
    return (word for name, value in _leaves(payload) if not name and isinstance(value, str) for word in _words(value))


def _names(payload: Any) -> Iterable[str]:
    return (name for name, _ in _leaves(payload) if name)
