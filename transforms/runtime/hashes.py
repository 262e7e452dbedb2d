"""Hashes of personal data, normalised as vendors ask for it."""

import hashlib
import re
from collections.abc import Callable
from typing import Any

from transforms.runtime.text import text
from transforms.tree import MISSING

ALGORITHMS: dict[str, Callable[..., Any]] = {
    "sha256": hashlib.sha256,
    "sha1": hashlib.sha1,
    "sha512": hashlib.sha512,
    "md5": hashlib.md5,
}
_HEX = {
    function: re.compile(f"[0-9a-fA-F]{{{function().digest_size * 2}}}", re.ASCII) for function in ALGORITHMS.values()
}
_NOT_DIGITS = re.compile(r"[^0-9]", re.ASCII)
_NOT_LETTERS = re.compile(r"[\W\d_]")
_PUNCTUATION = re.compile(r"[^\w\s]|_")
_SPACE = re.compile(r"\s+")


def _lower(value: str) -> str:
    return value.strip().lower()


def _google_email(value: str) -> str:
    """Gmail takes no notice of dots and of what follows a plus sign."""
    name, at, domain = _lower(value).rpartition("@")
    if at and domain in {"gmail.com", "googlemail.com"}:
        name = name.partition("+")[0].replace(".", "")
    return f"{name}{at}{domain}"


def _phone(value: str) -> str:
    return _NOT_DIGITS.sub("", value).lstrip("0")


def _phone_e164(value: str) -> str:
    digits = _phone(value)
    return f"+{digits}" if digits else ""


def _name(value: str) -> str:
    return _SPACE.sub(" ", _PUNCTUATION.sub("", value)).strip().lower()


def _city(value: str) -> str:
    return _NOT_LETTERS.sub("", value).lower()


def _zip(value: str) -> str:
    return re.sub(r"[\s-]", "", value).lower()


def _gender(value: str) -> str:
    return _lower(value)[:1]


def _date(value: str) -> str:
    """YYYYMMDD of the date that ISO text begins with."""
    return _NOT_DIGITS.sub("", value.strip()[:10])


NORMALIZERS: dict[str, Callable[[str], str]] = {
    "none": str,
    "trim": str.strip,
    "lower": _lower,
    "email": _lower,
    "email_google": _google_email,
    "phone": _phone,
    "phone_e164": _phone_e164,
    "name": _name,
    "city": _city,
    "state": _city,
    "country": _city,
    "zip": _zip,
    "gender": _gender,
    "date": _date,
}


def hashed(value: Any, algorithm: Callable[..., Any], normalize: Callable[[str], str], country_code: str) -> Any:
    """The hash in hex; missing for what is no text or number or is empty; what is such a hash already stays."""
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        return MISSING
    plain = text(value)
    if _HEX[algorithm].fullmatch(plain.strip()):
        return plain.strip().lower()
    if country_code and not plain.lstrip().startswith(("+", "00")) and (local := _phone(plain)):
        plain = country_code + local
    normal = normalize(plain)
    if not normal:
        return MISSING
    return algorithm(normal.encode("utf-8", "replace"), usedforsecurity=False).hexdigest()
