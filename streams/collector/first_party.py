"""Serve the browser client from the site's own domain, and renew its cookies of anonymous IDs.

Browsers delete cookies that scripts set after as little as 7 days, but keep cookies that the site's servers set. The
clients' scripts write their cookie again with each event, so each response to events renews it.
"""

import gzip
import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from streams.collector import api
from streams.collector.browsers import Headers
from turnout_tracking import identity

RENEWED = (identity.ANONYMOUS, "rl_anonymous_id")
"""The cookies with the anonymous ID of Segment's and RudderStack's browser clients."""

SCRIPT_CACHING = "public, max-age=3600, stale-while-revalidate=86400"

# Characters of a cookie value (RFC 6265, 4.1.1), plus the quotes and backslashes of JSON, which browsers accept.
_VALUE = re.compile(rf"[!-+\--:<-~]{{1,{identity.MAX_ID_CHARACTERS}}}")


class Script:
    """The browser client's script, read once from a file; raises OSError."""

    def __init__(self, file: Path) -> None:
        self._plain = file.read_bytes()
        self._gzipped = gzip.compress(self._plain, mtime=0)
        self._etag = f'W/"{hashlib.sha256(self._plain).hexdigest()[:32]}"'

    async def answer(self, request: Request) -> Response:
        """Serve the script to pages of any origin; 304 if the browser's copy is current."""
        headers = {
            "cache-control": SCRIPT_CACHING,
            "etag": self._etag,
            "vary": "Accept-Encoding",
            "access-control-allow-origin": "*",
            "cross-origin-resource-policy": "cross-origin",
            "x-content-type-options": "nosniff",
        }
        asked = dict(request.scope["headers"])
        tags = asked.get(api.IF_NONE_MATCH, b"").decode("latin-1")
        if self._etag in (tag.strip() for tag in tags.split(",")):
            return Response(status_code=304, headers=headers)
        content = self._plain
        if "gzip" in asked.get(api.ACCEPT_ENCODING, b"").decode("latin-1"):
            content, headers["content-encoding"] = self._gzipped, "gzip"
        return Response(content, headers=headers, media_type="text/javascript")


def renew_ids(headers: Mapping[bytes, bytes], domain: str, *, secure: bool) -> Headers:
    """Return the headers that renew a request's anonymous ID cookies for a year, with their values unchanged.

    They also forbid caches to store the response. Returns no headers if the browser asks for privacy or sent no such
    cookies.
    """
    cookies = headers.get(api.COOKIE)
    if cookies is None or headers.get(api.PRIVACY) == b"1":
        return ()
    renewed = tuple(
        (b"set-cookie", identity.set_cookie(value, domain, secure=secure, name=name).encode("latin-1"))
        for name, value in _ids(cookies.decode("latin-1"))
    )
    return ((b"cache-control", b"no-store"), *renewed) if renewed else ()


def _ids(cookies: str) -> Iterator[tuple[str, str]]:
    """Yield the first valid value of each cookie."""
    found = set()
    for part in cookies.split(";"):
        name, _, value = part.strip().partition("=")
        if name in RENEWED and name not in found and _VALUE.fullmatch(value) and identity.decode_id(value):
            found.add(name)
            yield name, value
