"""A request's body, read and decompressed within bounds."""

import zlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from streams.collector.errors import RequestError

Receive = Callable[[], Awaitable[Any]]

_WINDOWS = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}
"""zlib's window bits for each Content-Encoding: 31 expects a gzip header, 15 a zlib one."""


class DisconnectedError(Exception):
    """The client went away before its request was whole; there is nobody to answer."""


async def read_body(headers: Mapping[bytes, bytes], receive: Receive, limit: int, hold: Callable[[int], None]) -> bytes:
    """The body, decompressed; raises RequestError when it is over `limit` bytes on the wire or decompressed.

    `hold` hears the size of each part that comes in, and may raise to end the reading.
    """
    encoding = headers.get(b"content-encoding", b"identity").strip().lower()
    if encoding != b"identity" and encoding not in _WINDOWS:
        raise RequestError(415, "unsupported_encoding", "Content-Encoding must be gzip, deflate or identity")
    if int(headers.get(b"content-length", 0)) > limit:
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
    return bytes(body) if encoding == b"identity" else _inflate(body, _WINDOWS[encoding], limit)


def _inflate(body: bytes | bytearray, window: int, limit: int) -> bytes:
    inflater = zlib.decompressobj(window)
    try:
        inflated = inflater.decompress(body, limit + 1)
    except zlib.error:
        raise RequestError(400, "bad_encoding", "the body is not what Content-Encoding says") from None
    if len(inflated) > limit:
        raise _too_large(limit)
    if not inflater.eof:
        raise RequestError(400, "bad_encoding", "the compressed body is cut off")
    # Each further member would cost a copy of all that follows it, and no client sends any.
    if inflater.unused_data:
        raise RequestError(400, "bad_encoding", "something follows the compressed body")
    return inflated


def _too_large(limit: int) -> RequestError:
    return RequestError(413, "too_large", f"the body is over the limit of {limit} bytes")
