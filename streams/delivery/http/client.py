"""Send one HTTP request with a total timeout, no redirects, and a bounded response."""

import asyncio
import socket
import zlib
from typing import Any, Final

import aiohttp
import orjson

from forwarders.api.contract import Request, Response
from forwarders.api.urls import is_forbidden

MAX_RESPONSE_BYTES: Final = 1_000_000
"""How much of an answer is read, and how much it may inflate to; what is longer is judged by its beginning."""

HEADERS: Final = {"User-Agent": "turnout", "Accept-Encoding": "gzip, deflate"}

_ANY, _BARE = zlib.MAX_WBITS | 32, -zlib.MAX_WBITS


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
            connector=aiohttp.TCPConnector(
                limit=self._connections, ttl_dns_cache=60, socket_factory=_socket_to_an_allowed_address
            ),
            timeout=aiohttp.ClientTimeout(total=self._timeout),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=HEADERS,
            # aiohttp inflates whatever comes; here it is bounded.
            auto_decompress=False,
        )

    async def close(self) -> None:
        """Close the connections."""
        if self._session:
            await self._session.close()

    async def send(self, request: Request) -> Response:
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
                read = _inflate(await _read(response), response.headers.get("Content-Encoding", ""))
                return Response(
                    response.status, {name.lower(): value for name, value in response.headers.items()}, read
                )
        except aiohttp.ClientConnectorCertificateError as error:  # a ValueError too, and mended by the vendor
            raise UnreachableError(type(error).__name__) from error
        except (aiohttp.InvalidURL, ValueError) as error:
            raise UnsendableError(type(error).__name__) from error
        except (aiohttp.ClientError, TimeoutError, asyncio.IncompleteReadError, OSError) as error:
            raise UnreachableError(_reason(error)) from error


def _socket_to_an_allowed_address(found: Any) -> socket.socket:
    """A socket for an address that a host has; refused where that is a machine's own metadata service.

    Only here is it known for certain where a name leads, however often it is looked up.
    """
    family, kind, protocol, _, address = found
    if is_forbidden(str(address[0])):
        raise OSError("the name leads to a link-local or cloud metadata address")
    return socket.socket(family, kind, protocol)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    parts: list[bytes] = []
    left = MAX_RESPONSE_BYTES
    while left > 0 and (part := await response.content.read(min(left, 65536))):
        parts.append(part)
        left -= len(part)
    if left <= 0:
        response.close()
    return b"".join(parts)


def _inflate(body: bytes, encoding: str) -> bytes:
    """The body as it was before the vendor compressed it, up to the bound; as it came where it is not what it says."""
    if not encoding:
        return body
    # By its head it is gzip or zlib; what some send as deflate has none.
    for form in {"gzip": [_ANY], "x-gzip": [_ANY], "deflate": [_ANY, _BARE]}.get(encoding.lower(), []):
        try:
            return zlib.decompressobj(form).decompress(body, MAX_RESPONSE_BYTES)
        except zlib.error:
            continue
    return body


def _reason(error: BaseException) -> str:
    """What went wrong, without the URL that aiohttp puts into some of its messages."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"{type(error).__name__}: {error.os_error}"
    return type(error).__name__
