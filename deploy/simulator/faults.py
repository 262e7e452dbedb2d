"""Faults of the simulator: other responses than the vendor's, and responses that fail in transit."""

import asyncio
import socket
import struct
import zlib
from collections.abc import AsyncIterator
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from pydantic import Field, TypeAdapter
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from streams.settings import StrictModel
from transforms.documents import Document, RuleError

HUGE: Final = 2 << 30
"""Bytes of a response that is too long, and of an inflated gzip bomb."""

BLOCK: Final = bytes(1 << 20)
TRANSPORT: Final = "turnout.transport"


class Wrong(StrEnum):
    """How a response fails in transit."""

    RESET = "reset"  # the connection is reset; the request is not accepted
    SILENT = "silent"  # there is never a response; the request is not accepted
    LOST = "lost"  # the request is accepted, but the connection ends without a response
    TRUNCATED = "truncated"  # the connection ends in the middle of the response
    SLOW = "slow"  # the response arrives at 1 byte per second
    HUGE = "huge"  # the response has 2 GB
    BOMB = "bomb"  # the response inflates to 2 GB


NOT_ACCEPTED: Final = frozenset({Wrong.RESET, Wrong.SILENT})


class Fault(StrictModel, frozen=False):
    """A fault that replaces the vendor's response to the next requests whose path begins with `path`."""

    path: str = "/"
    """The beginning of the path."""
    status: int | None = Field(None, ge=100, le=599)
    """The status of the response. Default: the vendor's."""
    headers: dict[str, str] = Field(default_factory=dict)
    """Headers of the response."""
    body: Any = None
    """The body: JSON data, or a string that is sent unchanged."""
    delay: float = Field(0, ge=0)
    """Seconds before the response."""
    times: int | None = Field(1, ge=1)
    """The number of requests that it applies to; null for all."""
    poison: str | None = Field(None, min_length=1)
    """The vendor refuses deliveries that contain this text."""
    wrong: Wrong | None = None
    """How the response fails in transit."""


SCRIPT: Final = TypeAdapter(list[Fault])


def read_script(text: str | bytes) -> list[Fault]:
    """Read one fault or a list, in YAML or JSON; raises ValueError, or its subclass pydantic.ValidationError."""
    try:
        data = Document.parse(text, "faults").data
    except RuleError as error:
        raise ValueError(str(error)) from None
    return SCRIPT.validate_python([data] if isinstance(data, dict) else data)


def break_response(response: Response, wrong: Wrong) -> ASGIApp:
    """Return a response that fails in transit."""
    body = bytes(response.body) or bytes(100)
    status = 200 if response.status_code == 204 else response.status_code  # 204 has no body that could fail
    headers = [(name, value) for name, value in response.raw_headers if name != b"content-length"]

    async def send_broken(scope: Scope, receive: Receive, send: Send) -> None:
        transport: asyncio.Transport = scope["extensions"][TRANSPORT]["transport"]
        match wrong:
            case Wrong.RESET:
                raw: socket.socket = transport.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                transport.abort()
            case Wrong.LOST:
                transport.abort()
            case Wrong.SILENT:
                while (await receive())["type"] != "http.disconnect":
                    pass
            case Wrong.TRUNCATED:
                head = [*headers, (b"content-length", b"%d" % len(body))]
                await send({"type": "http.response.start", "status": status, "headers": head})
                await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
                transport.close()
            case _:
                parts = _drops(body) if wrong is Wrong.SLOW else _blocks() if wrong is Wrong.HUGE else _bomb()
                long = StreamingResponse(parts, status)
                long.raw_headers += headers
                if wrong is Wrong.BOMB:
                    long.headers["content-encoding"] = "gzip"
                await long(scope, receive, send)

    return send_broken


async def _drops(body: bytes) -> AsyncIterator[bytes]:
    for place in range(len(body)):
        yield body[place : place + 1]
        await asyncio.sleep(1)


async def _blocks() -> AsyncIterator[bytes]:
    for _ in range(HUGE // len(BLOCK)):
        yield BLOCK
        await asyncio.sleep(0)  # notices that the client has disconnected


async def _bomb() -> AsyncIterator[bytes]:
    packer = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16)
    yield packer.compress(BLOCK) + packer.flush(zlib.Z_FULL_FLUSH)
    # After a full flush, equal blocks compress to equal bytes. No client reads as far as the checksum.
    packed = packer.compress(BLOCK) + packer.flush(zlib.Z_FULL_FLUSH)
    for _ in range(HUGE // len(BLOCK) - 1):
        yield packed
        await asyncio.sleep(0)


class FaultyProtocol(HttpToolsProtocol):
    """Gives each request its transport, with which it can break the connection."""

    def on_message_begin(self) -> None:
        """Begin a message, with the transport in the scope's extensions."""
        super().on_message_begin()
        self.scope["extensions"] = {TRANSPORT: {"transport": self.transport}}


EXPIRED: Final = Path(__file__).with_name("expired.pem")
"""A self-signed certificate for 127.0.0.1 that expired in 2021, with its key."""
