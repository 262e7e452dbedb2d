"""Read and decompress a request's body within size limits."""

import zlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from streams.collector import api
from streams.collector.errors import RequestError

Receive = Callable[[], Awaitable[Any]]

_WINDOWS = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}
"""zlib's window bits for each Content-Encoding: 31 expects a gzip header, 15 a zlib header."""

_GZIP_MAGIC = b"\x1f\x8b"
"""The first bytes of gzip, which never begin JSON. Some clients and proxies omit the Content-Encoding header."""


class DisconnectedError(Exception):
    """The client disconnected before the request was complete; no response can be sent."""


async def read_body(headers: Mapping[bytes, bytes], receive: Receive, limit: int, hold: Callable[[int], None]) -> bytes:
    """Return the decompressed body; raises RequestError if it exceeds `limit` bytes, compressed or decompressed.

    `hold` is called with the size of each chunk and may raise to stop reading.
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
    """Return zlib's window bits for Content-Encoding, a list with at most one encoding other than `identity`."""
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
        raise RequestError("bad_encoding", "the body is not compressed as Content-Encoding says") from None
    if len(inflated) > limit:
        raise _too_large(limit)
    if not inflater.eof:
        raise RequestError("bad_encoding", "the compressed body is truncated")
    # Each further gzip member would copy all following bytes, and no client sends more than one.
    if inflater.unused_data:
        raise RequestError("bad_encoding", "unexpected bytes after the compressed body")
    return inflated


def _too_large(limit: int) -> RequestError:
    return RequestError("too_large", f"the body exceeds the limit of {limit} bytes")
