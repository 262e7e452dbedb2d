"""Normalize phone numbers to digits with the country code (ITU-T E.164)."""

import re
import unicodedata

_EXTENSION = re.compile(r"[\s,;]*(?:ext\.?|extension|x|#)\s*[0-9]+$", re.IGNORECASE)
_OPTIONAL_ZERO = re.compile(r"\(\s*0\s*\)")
_WRITTEN = re.compile(r"\+?[\d\s().\-/\u2010-\u2015·]+")
# The fast path for nearly every number; the full parser takes several times as long.
_PLAIN = re.compile(r"[+(]?[0-9][0-9 ().\-/]*")
_SIGNS = re.compile(r"[^0-9]+")
_NORTH_AMERICA = re.compile(r"1[2-9][0-9]{2}[2-9][0-9]{6}")
_MIN_DIGITS, _MAX_DIGITS = 7, 15
_MIN_DIGITS_WITHOUT_PLUS = 11
"""For numbers without `+` or `country_code`: most numbers with ten digits have no country code."""

_PREFIXES = {"1": "011", "61": "0011", "81": "010"}
"""International prefixes other than 00, by country code."""

_TRUNKS = {"1": "1", "7": "8", "36": "06", "370": "8", "375": "8", "993": "8"}
"""Trunk prefixes other than 0, by country code."""

_ZERO_STAYS = frozenset({"39", "225", "241", "242", "378"})
"""Countries whose numbers may have a 0 after the country code."""

_LENGTHS = {
    **dict.fromkeys(("1", "7", "30", "52", "57", "90", "91"), (10, 10)),
    **dict.fromkeys(("27", "31", "33", "34", "40", "41", "48", "56", "61", "351", "380", "420", "421", "966"), (9, 9)),
    **dict.fromkeys(("45", "47", "65", "852"), (8, 8)),
    **dict.fromkeys(("32", "36", "51", "66", "886", "971", "972"), (8, 9)),
    **dict.fromkeys(("60", "63", "64", "82", "20"), (8, 10)),
    **dict.fromkeys(("81", "84"), (9, 10)),
    **dict.fromkeys(("54", "55", "86"), (10, 11)),
    **dict.fromkeys(("353", "354"), (7, 9)),
} | {"39": (6, 12), "43": (4, 13), "44": (9, 10), "46": (7, 10), "49": (5, 13), "62": (8, 12), "358": (5, 12)}
"""Digits of a number behind the country code, least and most; from the national numbering plans (ITU-T E.164.1)."""


def normalize_phone(value: str, country_code: str = "") -> str:
    """Return the digits with the country code and without `+`; '' if the value is not a phone number.

    A number with `+`, 00 or 011 has a country code. Any other number gets `country_code` in place of its trunk prefix
    (0, in North America 1). Without `country_code`, only a long number is assumed to have one.
    """
    text = value.strip()
    if _PLAIN.fullmatch(text) and "(0)" not in text:
        digits = _SIGNS.sub("", text)
    else:
        text = _EXTENSION.sub("", unicodedata.normalize("NFKC", text).removeprefix("tel:"))
        text = _OPTIONAL_ZERO.sub("", text) if text.startswith(("+", "00")) else text
        if not _WRITTEN.fullmatch(text):
            return ""
        digits = "".join(str(unicodedata.decimal(each)) for each in text if each.isdecimal())
    if text.startswith("+"):
        return _international(digits)
    prefix = _PREFIXES.get(country_code, "00")
    if digits.startswith(("00", prefix)):
        return _international(digits.removeprefix(prefix if digits.startswith(prefix) else "00"))
    if country_code:
        return _national(digits, country_code)
    return _international(digits) if len(digits) >= _MIN_DIGITS_WITHOUT_PLUS else ""


def _international(digits: str) -> str:
    code = _code_of(digits)
    if code and code not in _ZERO_STAYS and digits[len(code) :].startswith("0"):
        digits = code + digits[len(code) + 1 :]
    return digits if _is_valid(digits, code) else ""


def _code_of(digits: str) -> str:
    """Return the country code at the start of a number, '' if it is unknown. No code is a prefix of another."""
    for length in (1, 2, 3):
        if digits[:length] in _LENGTHS:
            return digits[:length]
    return ""


def _national(digits: str, code: str) -> str:
    """Normalize a number in national form; it may have the country code anyway."""
    trunk = _TRUNKS.get(code, "" if code in _ZERO_STAYS else "0")
    if trunk and digits.startswith(trunk) and _is_valid(code + digits.removeprefix(trunk), code):
        return code + digits.removeprefix(trunk)
    if digits.startswith(code) and _is_valid(digits, code):
        return digits
    return code + digits if _is_valid(code + digits, code) else ""


def _is_valid(digits: str, code: str) -> bool:
    if not _MIN_DIGITS <= len(digits) <= _MAX_DIGITS or digits.startswith("0"):
        return False
    if code == "1":
        return _NORTH_AMERICA.fullmatch(digits) is not None
    least, most = _LENGTHS.get(code, (4, _MAX_DIGITS))
    zero = digits[len(code) :].startswith("0") and bool(code) and code not in _ZERO_STAYS
    return not zero and least <= len(digits) - len(code) <= most
