"""The cookies that browser and server know a visitor by."""

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

import orjson

ANONYMOUS = "ajs_anonymous_id"
USER = "ajs_user_id"

VENDOR_COOKIES = frozenset(("_ga", "_fbp", "_fbc", "_ttp", "_scid"))
"""Cookies of vendors' browser tags; besides, GA4 has one for each of its properties, `_ga_` and the property's id."""

LONGEST_VENDOR = 512
"""Characters of such a cookie that are believed."""

YEAR = 365 * 24 * 3600
LONGEST = 1024
"""Characters of an id that an event may have."""

# What most ids are made of, and what means itself in every way of writing.
_PLAIN = re.compile(r"[A-Za-z0-9_.:@+-]+")

# What JavaScript writes for nobody.
_NOBODY = ("null", "undefined")

# Caches of their own kind read these, whatever Cache-Control says.
_SHARED_CACHES = ("cdn-cache-control", "surrogate-control", "x-accel-expires")


class Cookies(NamedTuple):
    """What the cookies of a request tell: who the visitor is, and the cookies of vendors' browser tags as they came."""

    anonymous: str | None
    user: str | None
    vendors: dict[str, str]


def read_cookies(header: str) -> Cookies:
    """Read a Cookie header; of several cookies with a name the first that holds something valid counts."""
    anonymous = user = None
    vendors: dict[str, str] = {}
    for part in header.split(";"):
        name, _, value = part.strip().partition("=")
        if name[:1] == "_":
            if (name in VENDOR_COOKIES or name[:4] == "_ga_") and 0 < len(value) <= LONGEST_VENDOR:
                vendors.setdefault(name, value)
        elif name == ANONYMOUS:
            anonymous = anonymous or decode_id(value)
        elif name == USER:
            user = user or decode_id(value)
    return Cookies(anonymous, user, vendors)


def decode_id(value: str) -> str | None:
    """The id in a cookie's value, which newer browser clients write as it is and older ones as JSON; None for none."""
    text = value[3:-3] if value.startswith("%22") and value.endswith("%22") else value
    if not _PLAIN.fullmatch(text):
        try:
            text = unquote_to_bytes(value.encode("latin-1")).decode()
            if text.startswith('"'):
                text = orjson.loads(text)
        except ValueError:
            return None
        if not text.isprintable() or text.isspace():
            return None
    return text if 0 < len(text) <= LONGEST and text not in _NOBODY else None


def set_cookie(anonymous_id: str, domain: str | None, *, secure: bool, name: str = ANONYMOUS) -> str:
    """The Set-Cookie header's value. The browser client reads the cookie, so it cannot be HttpOnly."""
    value = f"{name}={anonymous_id}; Max-Age={YEAR}; Path=/; SameSite=Lax"
    if domain:
        value += f"; Domain={domain}"
    return value + "; Secure" if secure else value


def keep_private(headers: Mapping[str, str]) -> list[tuple[str, str]] | None:
    """What a response lacks to be kept out of shared caches; None where it is meant for them.

    Shared caches may store whatever does not say `private` or `no-store` (RFC 9111, 3), `no-cache` included: they only
    ask before they use it. A response that says nothing at all gets `private`. `headers` have names in lower case.
    """
    if any(name in headers for name in _SHARED_CACHES):
        return None
    control = headers.get("cache-control")
    if control is None:
        return None if "expires" in headers else [("Cache-Control", "private")]
    directives = {part.strip().lower() for part in control.split(",")}
    return [] if directives & {"private", "no-store"} else None
