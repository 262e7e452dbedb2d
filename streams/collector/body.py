"""A request's body, read and decompressed within bounds."""

import zlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from streams.collector import api
from streams.collector.errors import RequestError

Receive = Callable[[], Awaitable[Any]]

_WINDOWS = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}
"""zlib's window bits for each Content-Encoding: 31 expects a gzip header, 15 a zlib one."""

_GZIP_MAGIC = b"\x1f\x8b"
"""How gzip begins, and JSON cannot: some clients compress without saying so, and some proxies drop the header."""


class DisconnectedError(Exception):
    """The client went away before its request was whole; there is nobody to answer."""


async def read_body(headers: Mapping[bytes, bytes], receive: Receive, limit: int, hold: Callable[[int], None]) -> bytes:
    """The body, decompressed; raises RequestError when it is over `limit` bytes on the wire or decompressed.

    `hold` hears the size of each part that comes in, and may raise to end the reading.
    """
    window = _window(headers.get(api.CONTENT_ENCODING))
    if int(headers.get(api.CONTENT_LENGTH, 0)) > limit:
        raise _too_large(limit)
    body: bytes | bytearray = b""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise DisconnectedError
        part: bytes = message["body"]
        more = message["more_body"]
        hold(len(part))
        if body:
            body += part
        else:
            body = bytearray(part) if more else part
        if len(body) > limit:
            raise _too_large(limit)
    if window is None and body.startswith(_GZIP_MAGIC):
        window = _WINDOWS[b"gzip"]
    return bytes(body) if window is None else _inflate(body, window, limit)


def _window(encodings: bytes | None) -> int | None:
    """Return zlib's window bits for Content-Encoding, a list of which at most one is not `identity`."""
    if encodings is None:
        return None
    named = [name for part in encodings.lower().split(b",") if (name := part.strip()) not in (b"", b"identity")]
    if not named:
        return None
    if len(named) > 1 or named[0] not in _WINDOWS:
        raise RequestError("unsupported_encoding", "Content-Encoding must be gzip, deflate or identity")
    return _WINDOWS[named[0]]


def _inflate(body: bytes | bytearray, window: int, limit: int) -> bytes:
    inflater = zlib.decompressobj(window)
    try:
        inflated = inflater.decompress(body, limit + 1)
    except zlib.error:
        raise RequestError("bad_encoding", "the body is not what Content-Encoding says") from None
    if len(inflated) > limit:
        raise _too_large(limit)
    if not inflater.eof:
        raise RequestError("bad_encoding", "the compressed body is cut off")
    # Each further member would cost a copy of all that follows it, and no client sends any.
    if inflater.unused_data:
        raise RequestError("bad_encoding", "something follows the compressed body")
    return inflated


def _too_large(limit: int) -> RequestError:
    return RequestError("too_large", f"the body is over the limit of {limit} bytes")
