"""Issue one-time codes, which links contain instead of a token."""

import hashlib
import secrets
from collections.abc import Callable
from time import monotonic

CODE_SECONDS = 600.0
"""Seconds that a code is valid."""

MAX_CODES = 25
"""Codes that are valid at the same time; a new one ends the oldest. Fewer can be printed while one is valid."""


class OneTimeCodes:
    """Issues codes and accepts each once.

    Only digests are kept, so that neither memory nor the time of a comparison reveals a code.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._ends: dict[bytes, float] = {}

    def issue(self) -> str:
        """Return a new code."""
        code = secrets.token_urlsafe(24)
        self._ends[_digest(code)] = self._clock() + CODE_SECONDS
        while len(self._ends) > MAX_CODES:
            del self._ends[next(iter(self._ends))]
        return code

    def take(self, code: str) -> bool:
        """Return whether a code is valid, and invalidate it."""
        ends = self._ends.pop(_digest(code), None)
        return ends is not None and self._clock() < ends


def _digest(code: str) -> bytes:
    return hashlib.sha256(code.encode(errors="replace")).digest()
