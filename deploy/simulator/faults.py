"""What the simulator may be told to do wrong: other answers than the vendor's, and answers that fail on their way."""

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
"""Bytes of an answer that is too long, and to which a gzip bomb inflates."""

BLOCK: Final = bytes(1 << 20)
TRANSPORT: Final = "turnout.transport"


class Wrong(StrEnum):
    """How an answer goes wrong on its way."""

    RESET = "reset"  # the connection is reset; the vendor took nothing
    SILENT = "silent"  # there is no answer, ever; the vendor took nothing
    LOST = "lost"  # the vendor took it, and the connection ends without an answer
    TRUNCATED = "truncated"  # the connection ends in the middle of the answer
    SLOW = "slow"  # the answer comes at a byte a second
    HUGE = "huge"  # the answer has 2 GB
    BOMB = "bomb"  # the answer inflates to 2 GB


UNTAKEN: Final = frozenset({Wrong.RESET, Wrong.SILENT})


class Fault(StrictModel, frozen=False):
    """What happens to the next requests whose path begins with `path`, instead of what the vendor does."""

    path: str = "/"
    """Beginning of the path."""
    status: int | None = Field(None, ge=100, le=599)
    """Status to answer with; by default the vendor's own."""
    headers: dict[str, str] = Field(default_factory=dict)
    """Headers of the answer."""
    body: Any = None
    """JSON data, or a string as it stands."""
    delay: float = Field(0, ge=0)
    """Seconds until the answer."""
    times: int | None = Field(1, ge=1)
    """How many requests it is for; null for all from now on."""
    poison: str | None = Field(None, min_length=1)
    """The vendor refuses the deliveries that hold this text."""
    wrong: Wrong | None = None
    """How the answer goes wrong on its way."""


SCRIPT: Final = TypeAdapter(list[Fault])


def read_script(text: str | bytes) -> list[Fault]:
    """Faults in YAML or JSON, a list or one; raises ValueError, of which pydantic's ValidationError is one."""
    try:
        data = Document.parse(text, "faults").data
    except RuleError as error:
        raise ValueError(str(error)) from None
    return SCRIPT.validate_python([data] if isinstance(data, dict) else data)


def spoilt(response: Response, wrong: Wrong) -> ASGIApp:
    """A response that goes wrong on its way."""
    body = bytes(response.body) or bytes(100)
    status = 200 if response.status_code == 204 else response.status_code  # which has no body that could go wrong
    headers = [(name, value) for name, value in response.raw_headers if name != b"content-length"]

    async def send_spoilt(scope: Scope, receive: Receive, send: Send) -> None:
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

    return send_spoilt


async def _drops(body: bytes) -> AsyncIterator[bytes]:
    for place in range(len(body)):
        yield body[place : place + 1]
        await asyncio.sleep(1)


async def _blocks() -> AsyncIterator[bytes]:
    for _ in range(HUGE // len(BLOCK)):
        yield BLOCK
        await asyncio.sleep(0)  # which ends it when the client has left


async def _bomb() -> AsyncIterator[bytes]:
    packer = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16)
    yield packer.compress(BLOCK) + packer.flush(zlib.Z_FULL_FLUSH)
    # After a full flush the same bytes follow for the same block. The checksum at the end nobody lives to see.
    packed = packer.compress(BLOCK) + packer.flush(zlib.Z_FULL_FLUSH)
    for _ in range(HUGE // len(BLOCK) - 1):
        yield packed
        await asyncio.sleep(0)


class FaultyProtocol(HttpToolsProtocol):
    """Hands each request its connection, which nothing else may end in the middle."""

    def on_message_begin(self) -> None:
        """As it was, with the transport among the extensions."""
        super().on_message_begin()
        self.scope["extensions"] = {TRANSPORT: {"transport": self.transport}}


EXPIRED: Final = Path(__file__).with_name("expired.pem")
"""A certificate for 127.0.0.1 that signs itself and ended in 2021, with its key."""
