"""Decode the core of an IAB consent string (TCF v2).

https://github.com/InteractiveAdvertisingBureau/GDPR-Transparency-and-Consent-Framework, "Consent string and vendor list
formats v2". No maintained library reads it: the last release of iab-tcf on PyPI was in 2022.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple, Self

MAX_STRING_CHARACTERS = 4096
"""Maximum length of a consent string; real ones have up to about 2,000 characters."""

CONSENT_ONLY = frozenset((1, 3, 4, 5, 6))
"""Purposes for which the TCF does not allow legitimate interest."""

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_BITS = {letter: f"{number:06b}" for number, letter in enumerate(_ALPHABET)}
_PURPOSES = 24
_BEFORE_PURPOSES = 152
_NOT_ALLOWED, _BY_CONSENT, _BY_INTEREST = 0, 1, 2

Ranges = Sequence[tuple[int, int]]
"""Vendor IDs as closed intervals. They are never expanded, since a range of a few bits may span all 65,535."""


class ConsentStringError(ValueError):
    """An invalid consent string of version 2."""


class Restriction(NamedTuple):
    """A publisher restriction of a purpose for some vendors: not allowed (0), requires consent (1) or interest (2)."""

    purpose: int
    kind: int
    vendors: Ranges


class ConsentString(NamedTuple):
    """Purposes and vendors with consent, and those with a legitimate interest without objection."""

    purposes: frozenset[int]
    interests: frozenset[int]
    vendors: Ranges
    vendor_interests: Ranges
    restrictions: Sequence[Restriction]

    @classmethod
    def decode(cls, text: str) -> Self:
        """Decode a consent string; raises ConsentStringError. Segments after the core are ignored."""
        if len(text) > MAX_STRING_CHARACTERS:
            raise ConsentStringError("too long for a consent string")
        try:
            bits = _Bits("".join([_BITS[letter] for letter in text.partition(".")[0]]))
        except KeyError:
            raise ConsentStringError("invalid character") from None
        if bits.number(6) != 2:
            raise ConsentStringError("not version 2")
        bits.skip(_BEFORE_PURPOSES - 6)
        purposes, interests = bits.flags(_PURPOSES), bits.flags(_PURPOSES)
        bits.skip(13)
        vendors, vendor_interests = bits.vendors(), bits.vendors()
        restrictions = [Restriction(bits.number(6), bits.number(2), bits.ranges()) for _ in range(bits.number(12))]
        return cls(_ids(purposes), _ids(interests), vendors, vendor_interests, restrictions)

    def permits(self, purpose: int, vendor: int | None = None, *, by_interest: bool = False) -> bool:
        """Return whether a purpose is permitted by consent, in general or for one vendor.

        With `by_interest`, a legitimate interest is enough if the TCF and the publisher allow it.
        """
        kinds = {it.kind for it in self.restrictions if it.purpose == purpose and _holds(it.vendors, vendor)}
        if _NOT_ALLOWED in kinds:
            return False
        if purpose in self.purposes and _BY_INTEREST not in kinds and (vendor is None or _holds(self.vendors, vendor)):
            return True
        return (
            by_interest
            and purpose in self.interests - CONSENT_ONLY
            and _BY_CONSENT not in kinds
            and (vendor is None or _holds(self.vendor_interests, vendor))
        )


class _Bits:
    """Reads bits from left to right; raises ConsentStringError at the end."""

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0

    def flags(self, count: int) -> str:
        self.skip(count)
        return self._text[self._at - count : self._at]

    def skip(self, count: int) -> None:
        self._at += count
        if self._at > len(self._text):
            raise ConsentStringError("truncated")

    def number(self, count: int) -> int:
        return int(self.flags(count), 2)

    def vendors(self) -> Ranges:
        highest, by_ranges = self.number(16), self.number(1)
        if by_ranges:
            return self.ranges()
        return [(found.start() + 1, found.end()) for found in re.finditer("1+", self.flags(highest))]

    def ranges(self) -> Ranges:
        return [self._range() for _ in range(self.number(12))]

    def _range(self) -> tuple[int, int]:
        is_range, first = self.number(1), self.number(16)
        return first, self.number(16) if is_range else first


def _ids(flags: str) -> frozenset[int]:
    return frozenset(place for place, flag in enumerate(flags, 1) if flag == "1")


def _holds(ranges: Ranges, vendor: int | None) -> bool:
    return vendor is not None and any(first <= vendor <= last for first, last in ranges)
