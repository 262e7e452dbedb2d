"""What the collector does as a host of the site's own: serves the browser client, and has its anonymous ids last.

Browsers keep cookies that scripts set for as little as 7 days, and those of the site's servers for as long as they say.
The clients write their cookie by script again with each event, so each answer to events sets it again.
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
"""The cookies with the anonymous id: of Segment's browser client and of RudderStack's."""

SCRIPT_CACHING = "public, max-age=3600, stale-while-revalidate=86400"

# What a cookie's value may have in it (RFC 6265, 4.1.1), and the quotes and backslashes of JSON, which browsers take.
_VALUE = re.compile(rf"[!-+\--:<-~]{{1,{identity.LONGEST}}}")


class Script:
    """The file of the browser client, read once; raises OSError."""

    def __init__(self, file: Path) -> None:
        self._plain = file.read_bytes()
        self._gzipped = gzip.compress(self._plain, mtime=0)
        self._etag = f'W/"{hashlib.sha256(self._plain).hexdigest()[:32]}"'

    async def answer(self, request: Request) -> Response:
        """The script, to any page; 304 where the browser has it."""
        headers = {
            "cache-control": SCRIPT_CACHING,
            "etag": self._etag,
            "vary": "Accept-Encoding",
            "access-control-allow-origin": "*",
            "cross-origin-resource-policy": "cross-origin",
            "x-content-type-options": "nosniff",
        }
        asked = dict(request.scope["headers"])
        held = asked.get(api.IF_NONE_MATCH, b"").decode("latin-1")
        if self._etag in (tag.strip() for tag in held.split(",")):
            return Response(status_code=304, headers=headers)
        content = self._plain
        if "gzip" in asked.get(api.ACCEPT_ENCODING, b"").decode("latin-1"):
            content, headers["content-encoding"] = self._gzipped, "gzip"
        return Response(content, headers=headers, media_type="text/javascript")


def renew_ids(headers: Mapping[bytes, bytes], domain: str, *, secure: bool) -> Headers:
    """The headers that set a request's cookies of anonymous ids again, as they came, for a year.

    They keep the answer out of every cache. None where the browser asks for privacy, or there are no such cookies.
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
    """The first valid value of each cookie."""
    found = set()
    for part in cookies.split(";"):
        name, _, value = part.strip().partition("=")
        if name in RENEWED and name not in found and _VALUE.fullmatch(value) and identity.decode_id(value):
            found.add(name)
            yield name, value
