"""Mask secrets in texts that are stored or shown, in every encoding that a request or response may use."""

import re
from base64 import b64encode
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote, quote_plus

import orjson
from pydantic import BaseModel, SecretStr

MAX_LEARNED_TOKENS: Final = 8
"""How many secrets that come and go (access tokens) are remembered; each is good for a request or two more."""

MIN_BASE64_CORE: Final = 6
"""The shortest stretch of base64 that counts as a secret's: shorter ones stand in many a text by chance."""


BYTES_OF_A_CHARACTER: Final = 4
"""At most, in UTF-8."""


class Mask:
    """Puts *** for the secrets of `settings`, and for those learnt later, as they are and encoded.

    Encoded is: as JSON, in a URL (percent-encoded by either rule, in either case), and in base64, alone or within
    something longer, as a user's password is.
    """

    def __init__(self, settings: BaseModel) -> None:
        self._settled = frozenset(form for secret in _secrets(settings) for form in _forms(secret))
        self._learnt: deque[frozenset[str]] = deque(maxlen=MAX_LEARNED_TOKENS)
        self._pattern = self._compile()

    def learn(self, secret: str) -> None:
        """One more secret."""
        forms = frozenset(_forms(secret))
        if forms not in self._learnt:
            self._learnt.append(forms)
            self._pattern = self._compile()

    def __call__(self, text: str) -> str:
        """The text with *** for each secret."""
        return self._pattern.sub("***", text) if self._pattern else text

    def excerpt(self, text: str | bytes, length: int) -> str:
        """Return the first `length` characters with *** for each secret, also for one that goes on behind them."""
        window = length + self._longest
        if isinstance(text, bytes):
            text = text[: window * BYTES_OF_A_CHARACTER].decode(errors="replace")
        parts, at = [], 0
        for found in self._pattern.finditer(text[:window]) if self._pattern else ():
            if found.start() >= length:
                break
            parts += [text[at : found.start()], "***"]
            at = found.end()
        return "".join([*parts, text[at:length]])

    def _compile(self) -> re.Pattern[str] | None:
        # The longest first, since one may contain another.
        forms = sorted(self._settled.union(*self._learnt), key=len, reverse=True)
        self._longest = len(forms[0]) if forms else 0
        return re.compile("|".join(map(re.escape, forms))) if forms else None


def _secrets(value: Any) -> Iterator[str]:
    """Every secret of a forwarder's settings, wherever it stands."""
    match value:
        case SecretStr():
            if secret := value.get_secret_value():
                yield secret
        case BaseModel():
            for _, each in value:
                yield from _secrets(each)
        case Mapping():
            yield from _secrets(list(value.values()))
        case list() | tuple():
            for each in value:
                yield from _secrets(each)


def _forms(secret: str) -> Iterator[str]:
    yield secret
    yield orjson.dumps(secret).decode()[1:-1]
    for encoded in (quote(secret), quote(secret, safe=""), quote_plus(secret)):
        yield encoded
        yield re.sub("%[0-9A-F]{2}", lambda match: match[0].lower(), encoded)
    for core in _base64_cores(secret.encode()):
        yield core
        yield core.replace("+", "-").replace("/", "_")


def _base64_cores(secret: bytes) -> Iterator[str]:
    """What base64 makes of a secret, without the digits at its ends that its neighbours have a part in.

    Three bytes are four digits, so there are three ways in which a secret may lie.
    """
    for before in range(3):
        first, last = -(-before * 8 // 6), (before + len(secret)) * 8 // 6
        if last - first >= MIN_BASE64_CORE:
            yield b64encode(bytes(before) + secret).decode()[first:last]
