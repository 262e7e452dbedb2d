"""Send one HTTP request with a total timeout, no redirects, and a bounded response."""

import asyncio
import socket
import zlib
from typing import Any, Final, Protocol

import aiohttp
import orjson

from forwarders.api.contract import Request, Response
from forwarders.api.urls import is_forbidden

MAX_RESPONSE_BYTES: Final = 1_000_000
"""Maximum bytes of a response, compressed and decompressed; the rest is ignored."""

HEADERS: Final = {"User-Agent": "turnout", "Accept-Encoding": "gzip, deflate"}

_ANY, _BARE = zlib.MAX_WBITS | 32, -zlib.MAX_WBITS


class UnreachableError(Exception):
    """No response: connection, name, TLS or timeout. The vendor may or may not have received the request."""


class UnsendableError(Exception):
    """The request is invalid (a header with a line break, an invalid URL), so that no attempt can send it."""


class RequestSender(Protocol):
    """Sends requests to a vendor, or to a stand-in for one."""

    async def send(self, request: Request, /) -> Response:
        """Send a request, and read the response; raises UnreachableError and UnsendableError."""


class Client:
    """One integration's HTTP client: at most `connections`, and `timeout` seconds from connecting to the last byte."""

    def __init__(self, connections: int, timeout: float) -> None:
        self._connections, self._timeout = connections, timeout
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Create the session; must be called in the event loop."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._connections, ttl_dns_cache=60, socket_factory=_socket_to_an_allowed_address
            ),
            timeout=aiohttp.ClientTimeout(total=self._timeout),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=HEADERS,
            # aiohttp has no limit for decompressed data.
            auto_decompress=False,
        )

    async def close(self) -> None:
        """Close the connections."""
        if self._session:
            await self._session.close()

    async def send(self, request: Request) -> Response:
        """Send a request, and read the response; raises UnreachableError and UnsendableError."""
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
        except aiohttp.ClientConnectorCertificateError as error:  # also a ValueError, but the vendor can fix it
            raise UnreachableError(type(error).__name__) from error
        except (aiohttp.InvalidURL, ValueError) as error:
            raise UnsendableError(type(error).__name__) from error
        except (aiohttp.ClientError, TimeoutError, asyncio.IncompleteReadError, OSError) as error:
            raise UnreachableError(_reason(error)) from error


def _socket_to_an_allowed_address(found: Any) -> socket.socket:
    """Create a socket for an address of a host; raises OSError if it is a cloud metadata address.

    The check is here because another look-up of the name may return another address.
    """
    family, kind, protocol, _, address = found
    if is_forbidden(str(address[0])):
        raise OSError("the host name resolves to a link-local or cloud metadata address")
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
    """Decompress a body up to the limit; return it unchanged if it does not have this encoding."""
    if not encoding:
        return body
    # gzip and zlib have a header; some vendors send deflate without one.
    for form in {"gzip": [_ANY], "x-gzip": [_ANY], "deflate": [_ANY, _BARE]}.get(encoding.lower(), []):
        try:
            return zlib.decompressobj(form).decompress(body, MAX_RESPONSE_BYTES)
        except zlib.error:
            continue
    return body


def _reason(error: BaseException) -> str:
    """Return what went wrong, without the URL that some of aiohttp's messages contain."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"{type(error).__name__}: {error.os_error}"
    return type(error).__name__
