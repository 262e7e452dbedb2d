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
"""Number of recent access tokens that are masked; earlier ones no longer appear in requests."""

MIN_BASE64_CORE: Final = 6
"""Minimum characters of base64 that count as a secret's; shorter ones occur in texts by chance."""


MAX_CHARACTER_BYTES: Final = 4
"""Maximum bytes of a character in UTF-8."""


class Mask:
    """Replace the secrets of `settings`, and those learned later, by ***, in plain and in encoded form.

    Encoded forms are JSON, URLs (percent-encoded by either rule, in either case), and base64, alone or within a longer
    text (a password in HTTP basic authentication).
    """

    def __init__(self, settings: BaseModel) -> None:
        self._from_settings = frozenset(form for secret in _secrets(settings) for form in _forms(secret))
        self._learned: deque[frozenset[str]] = deque(maxlen=MAX_LEARNED_TOKENS)
        self._pattern = self._compile()

    def learn(self, secret: str) -> None:
        """Add a secret."""
        forms = frozenset(_forms(secret))
        if forms not in self._learned:
            self._learned.append(forms)
            self._pattern = self._compile()

    def __call__(self, text: str) -> str:
        """Return the text with *** for each secret."""
        return self._pattern.sub("***", text) if self._pattern else text

    def excerpt(self, text: str | bytes, length: int) -> str:
        """Return the first `length` characters with *** for each secret, also for one that continues after them."""
        window = length + self._longest
        if isinstance(text, bytes):
            text = text[: window * MAX_CHARACTER_BYTES].decode(errors="replace")
        parts, at = [], 0
        for found in self._pattern.finditer(text[:window]) if self._pattern else ():
            if found.start() >= length:
                break
            parts += [text[at : found.start()], "***"]
            at = found.end()
        return "".join([*parts, text[at:length]])

    def _compile(self) -> re.Pattern[str] | None:
        # The longest first, since one may contain another.
        forms = sorted(self._from_settings.union(*self._learned), key=len, reverse=True)
        self._longest = len(forms[0]) if forms else 0
        return re.compile("|".join(map(re.escape, forms))) if forms else None


def _secrets(value: Any) -> Iterator[str]:
    """Yield every secret of a forwarder's settings, at any depth."""
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
    """Yield a secret in base64, without the digits at its ends that also encode neighbouring bytes.

    Three bytes are four digits, so a secret within a longer text has three possible encodings.
    """
    for before in range(3):
        first, last = -(-before * 8 // 6), (before + len(secret)) * 8 // 6
        if last - first >= MIN_BASE64_CORE:
            yield b64encode(bytes(before) + secret).decode()[first:last]
