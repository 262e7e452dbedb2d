"""HTTP out: one request, with a total time-out, no redirects, and an answer read up to a bound."""

import asyncio
from typing import Any, Final

import aiohttp
import orjson

from forwarders.contract import Answer, Request

ANSWER_BYTES: Final = 1_000_000
"""How much of an answer is read; what is longer is judged by its status and its beginning."""


class UnreachableError(Exception):
    """No answer: the connection, the name, TLS or the time-out. The vendor may or may not have got the request."""


class UnsendableError(Exception):
    """The request itself is impossible (a header with a line break, a URL that is none); no attempt can send it."""


class Client:
    """One integration's HTTP client: so many connections, and `timeout` seconds from connect to the last byte."""

    def __init__(self, connections: int, timeout: float) -> None:
        self._connections, self._timeout = connections, timeout
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the session; to be called inside the event loop."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections, ttl_dns_cache=60),
            timeout=aiohttp.ClientTimeout(total=self._timeout),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "turnout"},
        )

    async def close(self) -> None:
        """Close the connections."""
        if self._session:
            await self._session.close()

    async def send(self, request: Request) -> Answer:
        """Send, and read the answer; raises UnreachableError and UnsendableError."""
        assert self._session
        headers = dict(request.headers)
        body: Any = request.body
        if body is not None and not isinstance(body, bytes):
            body = orjson.dumps(body)
            headers.setdefault("Content-Type", "application/json")
        try:
            async with self._session.request(
                request.method, request.url, data=body, headers=headers, allow_redirects=False
            ) as response:
                read = await _read(response)
                return Answer(response.status, {name.lower(): value for name, value in response.headers.items()}, read)
        except (aiohttp.InvalidURL, ValueError) as error:
            raise UnsendableError(type(error).__name__) from error
        except (aiohttp.ClientError, TimeoutError, asyncio.IncompleteReadError, OSError) as error:
            raise UnreachableError(type(error).__name__) from error


async def _read(response: aiohttp.ClientResponse) -> bytes:
    parts: list[bytes] = []
    left = ANSWER_BYTES
    while left > 0 and (part := await response.content.read(min(left, 65536))):
        parts.append(part)
        left -= len(part)
    if left <= 0:
        response.close()
    return b"".join(parts)
