"""Read and write the cookies that identify a visitor to both browser and server."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

import orjson

ANONYMOUS = "ajs_anonymous_id"
USER = "ajs_user_id"

VENDOR_COOKIES = frozenset(("_ga", "_fbp", "_fbc", "_ttp", "_scid"))
"""Cookies of vendors' browser tags. GA4 also sets one per property: `_ga_` and the property's ID."""

MAX_VENDOR_COOKIE_CHARACTERS = 512
"""Maximum characters of such a cookie; longer ones are ignored."""

YEAR = 365 * 24 * 3600
MAX_ID_CHARACTERS = 1024
"""Maximum characters of an ID in an event."""

# The characters of most IDs, which are the same in every encoding.
_PLAIN = re.compile(r"[A-Za-z0-9_.:@+-]+")

# What JavaScript writes for a missing value.
_PLACEHOLDERS = ("null", "undefined")

# Some shared caches read these instead of Cache-Control.
_SHARED_CACHES = ("cdn-cache-control", "surrogate-control", "x-accel-expires")


class Cookies(NamedTuple):
    """The IDs of the visitor, and the raw cookies of vendors' browser tags."""

    anonymous: str | None
    user: str | None
    vendors: dict[str, str]


def read_cookies(header: str) -> Cookies:
    """Read a Cookie header; of several cookies with one name, the first valid one counts."""
    anonymous = user = None
    vendors: dict[str, str] = {}
    for part in header.split(";"):
        name, _, value = part.strip().partition("=")
        if name[:1] == "_":
            if (name in VENDOR_COOKIES or name[:4] == "_ga_") and 0 < len(value) <= MAX_VENDOR_COOKIE_CHARACTERS:
                vendors.setdefault(name, value)
        elif name == ANONYMOUS:
            anonymous = anonymous or decode_id(value)
        elif name == USER:
            user = user or decode_id(value)
    return Cookies(anonymous, user, vendors)


def decode_id(value: str) -> str | None:
    """Return the ID in a cookie's value, plain (newer browser clients) or JSON (older ones); None if it is invalid."""
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
    return text if 0 < len(text) <= MAX_ID_CHARACTERS and text not in _PLACEHOLDERS else None


def set_cookie(anonymous_id: str, domain: str | None, *, secure: bool, name: str = ANONYMOUS) -> str:
    """Return a Set-Cookie header. The browser client reads the cookie, so it cannot be HttpOnly."""
    value = f"{name}={anonymous_id}; Max-Age={YEAR}; Path=/; SameSite=Lax"
    if domain:
        value += f"; Domain={domain}"
    return value + "; Secure" if secure else value


def cookie_is_kept(host: str, domain: str) -> bool:
    """Return whether browsers accept a cookie with this Domain from this host (RFC 6265, 5.1.3 and 5.3).

    `host` may have a port. An IP address has no parent domains.
    """
    name = host.partition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
    name, expected = name.lower().rstrip("."), domain.lower().lstrip(".")
    if name == expected:
        return True
    try:
        ip_address(name)
    except ValueError:
        return name.endswith(f".{expected}")
    return False


def keep_private(headers: Mapping[str, str]) -> list[tuple[str, str]] | None:
    """Return the headers that keep a response out of shared caches; None if it is meant for shared caches.

    Shared caches may store every response without `private` or `no-store` (RFC 9111, 3). `no-cache` does not prevent
    that: caches revalidate before they use the response. A response without any of these headers gets `private`.
    `headers` have lower-case names.
    """
    if any(name in headers for name in _SHARED_CACHES):
        return None
    control = headers.get("cache-control")
    if control is None:
        return None if "expires" in headers else [("Cache-Control", "private")]
    directives = {part.strip().lower() for part in control.split(",")}
    return [] if directives & {"private", "no-store"} else None
