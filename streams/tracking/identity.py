"""The cookies that browser and server know a visitor by."""

from collections.abc import Iterable, Mapping
from urllib.parse import unquote_to_bytes

import orjson

ANONYMOUS = "ajs_anonymous_id"
USER = "ajs_user_id"

YEAR = 365 * 24 * 3600
LONGEST = 1024
"""Characters of an id that an event may have."""

# Caches of their own kind read these, whatever Cache-Control says.
_SHARED_CACHES = ("cdn-cache-control", "surrogate-control", "x-accel-expires")


def read_id(cookies: Iterable[tuple[str, str]], name: str) -> str | None:
    """The id in the first cookie of that name that holds a valid one."""
    for found, value in cookies:
        if found == name:
            decoded = decode_id(value)
            if decoded is not None:
                return decoded
    return None


def decode_id(value: str) -> str | None:
    """The id in a cookie's value, which newer browser clients write as it is and older ones as JSON; None for none."""
    try:
        text = unquote_to_bytes(value.encode("latin-1")).decode()
        if text.startswith('"'):
            text = orjson.loads(text)
    except ValueError:
        return None
    # `null` and `undefined` are what JavaScript writes for nobody.
    if text in ("null", "undefined") or not 0 < len(text) <= LONGEST:
        return None
    return text if text.isprintable() and not text.isspace() else None


def set_cookie(anonymous_id: str, domain: str | None, *, secure: bool) -> str:
    """The Set-Cookie header's value. The browser client reads the cookie, so it cannot be HttpOnly."""
    value = f"{ANONYMOUS}={anonymous_id}; Max-Age={YEAR}; Path=/; SameSite=Lax"
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
