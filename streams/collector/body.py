"""Read and decompress a request's body within size limits."""

import zlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from streams.collector import api
from streams.collector.errors import RETRY_SOON, RequestError
from streams.kafka.producer import Producer

Receive = Callable[[], Awaitable[Any]]

_WINDOWS = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}
"""zlib's window bits for each Content-Encoding: 31 expects a gzip header, 15 a zlib header."""

_GZIP_MAGIC = b"\x1f\x8b"
"""The first bytes of gzip, which never begin JSON. Some clients and proxies omit the Content-Encoding header."""


class DisconnectedError(Exception):
    """The client disconnected before the request was complete; no response can be sent."""


class HeldBytes:
    """Count the bytes in memory: bodies that are being read, and events that Kafka has not confirmed."""

    def __init__(self, limit: int, producer: Producer) -> None:
        self.reading = 0
        self._limit = limit
        self._producer = producer

    def hold(self, size: int) -> None:
        """Count bytes of a body; raises RequestError, with the bytes counted, if too many are in memory."""
        self.reading += size
        if self.reading + self._producer.unconfirmed > self._limit:
            raise RequestError("overloaded", "too many events wait for Kafka; send the request again later", RETRY_SOON)


class Body:
    """A request's body, which arrives in parts.

    Raises RequestError, from any method but `close`, if it exceeds `limit` bytes, compressed or decompressed, or if too
    many bytes are in memory.
    """

    __slots__ = ("_content", "_held", "_limit", "_size", "_window")

    def __init__(self, headers: Mapping[bytes, bytes], limit: int, held: HeldBytes) -> None:
        self._content: bytes | bytearray = b""
        self._size = 0
        self._limit = limit
        self._held = held
        self._window = _window(headers.get(api.CONTENT_ENCODING))
        if int(headers.get(api.CONTENT_LENGTH, 0)) > limit:
            raise _too_large(limit)
        held.hold(0)

    def add(self, part: bytes) -> None:
        """Receive the next part."""
        self._size += len(part)
        self._held.hold(len(part))
        if not self._content:
            self._content = part
        elif isinstance(self._content, bytearray):
            self._content += part
        else:
            self._content = bytearray(self._content) + part
        if self._size > self._limit:
            raise _too_large(self._limit)

    def read(self) -> bytes:
        """Return the decompressed body."""
        window = self._window
        if window is None and self._content.startswith(_GZIP_MAGIC):
            window = _WINDOWS[b"gzip"]
        return bytes(self._content) if window is None else _inflate(self._content, window, self._limit)

    def close(self) -> None:
        """Release the memory; the body can be closed more than once."""
        self._held.reading -= self._size
        self._size = 0
        self._content = b""


async def read_body(body: Body, receive: Receive) -> bytes:
    """Receive a whole body from ASGI and return it decompressed; raises RequestError and DisconnectedError."""
    try:
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise DisconnectedError
            body.add(message["body"])
            more = message["more_body"]
        return body.read()
    finally:
        body.close()


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
