"""Faults that a vendor may cause on a connection, and the request's result."""

import asyncio
import gzip
import ssl
import time
import zlib
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import orjson
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from forwarders.api.contract import Request
from streams.delivery.http.client import MAX_RESPONSE_BYTES, Client, UnreachableError, UnsendableError

pytestmark = pytest.mark.anyio

HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n%s\r\n"
Play = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def playing(play: Play, context: ssl.SSLContext | None = None):
    """A vendor that plays its part on each connection once it has a request's head; yields its port."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await play(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@asynccontextmanager
async def client(connections: int = 1, timeout: float = 0.5):
    made = Client(connections, timeout)
    await made.open()
    try:
        yield made
    finally:
        await made.close()


def answering(body: bytes, *headers: bytes) -> Play:
    async def play(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD % (len(body), b"".join(header + b"\r\n" for header in headers)) + body)
        await writer.drain()

    return play


async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()


async def reset_in_the_body(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD % (1000, b"") + b"half")
    await writer.drain()
    writer.transport.abort()


async def one_byte_at_a_time(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD % (1000, b""))
    while not writer.is_closing():
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


async def a_head_without_end(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while not writer.is_closing():
        writer.write(b"X-More: more\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)


async def no_http(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.9\r\n\r\n")


@pytest.mark.parametrize("play", [silent, reset_in_the_body, one_byte_at_a_time, a_head_without_end, no_http])
async def test_no_answer_in_time_is_unreachable_and_leaks_no_connection(play: Play):
    """Whatever phase it hangs in, the request ends by the one time-out, and the only connection is free again."""
    async with playing(play) as port, client() as one:
        for _ in range(3):
            start = time.monotonic()
            with pytest.raises(UnreachableError):
                await one.send(Request("POST", f"http://127.0.0.1:{port}/", body={}))
            assert time.monotonic() - start < 30


async def test_a_name_that_nobody_knows_and_a_port_where_nobody_listens():
    """Both are unreachable, and may be tried again."""
    async with client(timeout=5) as one, playing(silent) as port:
        for url in ("http://no-such-name.invalid/", f"http://127.0.0.2:{port}/"):
            with pytest.raises(UnreachableError):
                await one.send(Request("POST", url, body={}))


@pytest.mark.parametrize("address", ["169.254.169.254", "::ffff:169.254.169.254", "fd00:ec2::254", "100.100.100.200"])
async def test_a_name_that_leads_to_a_metadata_address_is_never_connected_to(
    address: str, monkeypatch: pytest.MonkeyPatch
):
    """The address is judged when the connection is made, so that no later answer of the name service slips through."""

    async def lie(host: str, port: int, **_: object) -> list[object]:
        family = 10 if ":" in address else 2
        return [(family, 1, 6, "", (address, port, 0, 0) if family == 10 else (address, port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", lie)
    async with client() as one:
        with pytest.raises(UnreachableError, match="metadata address"):
            await one.send(Request("GET", "http://innocent.example/latest/meta-data/"))


async def test_a_metadata_address_itself_is_never_connected_to():
    """An address in the URL is also blocked, in any spelling."""
    async with client() as one:
        for host in ("169.254.169.254", "[::ffff:a9fe:a9fe]"):
            with pytest.raises(UnreachableError, match="metadata address"):
                await one.send(Request("GET", f"http://{host}/"))


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate"])
async def test_a_compressed_answer_is_read_up_to_the_bound(encoding: bytes):
    """One that inflates to 200 MB costs no more memory than the bound; its beginning is read."""
    big = b"[" + b" " * 200_000_000
    body = gzip.compress(big, 1) if encoding == b"gzip" else zlib.compress(big, 1)
    assert len(body) < MAX_RESPONSE_BYTES
    async with playing(answering(body, b"Content-Encoding: " + encoding)) as port, client(timeout=10) as one:
        answer = await one.send(Request("POST", f"http://127.0.0.1:{port}/", body={}))
    assert (answer.status, len(answer.body), answer.json) == (200, MAX_RESPONSE_BYTES, None)


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (gzip.compress(b'{"a":1}', mtime=0), b"gzip"),
        (zlib.compress(b'{"a":1}'), b"deflate"),
        (zlib.compress(b'{"a":1}')[2:-4], b"deflate"),
        (b'{"a":1}', b"gzip"),
        (b'{"a":1}', b"identity"),
    ],
)
async def test_what_a_compressed_answer_says(body: bytes, encoding: bytes):
    """The response is read as JSON, even if it is not compressed as its header claims."""
    async with playing(answering(body, b"Content-Encoding: " + encoding)) as port, client() as one:
        assert (await one.send(Request("POST", f"http://127.0.0.1:{port}/", body={}))).json == {"a": 1}


async def test_a_redirect_is_an_answer():
    """It is not followed, to no host."""
    async with playing(answering(b"", b"Location: http://127.0.0.1:1/")) as port, client() as one:
        assert (await one.send(Request("POST", f"http://127.0.0.1:{port}/", body={}))).headers["location"]


def certify(folder: Path, host: str, until: datetime) -> tuple[Path, Path]:
    """A certificate that signs itself, and its key, as files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "vendor")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(until)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(host))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    files = folder / "certificate", folder / "key"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret = serialization.NoEncryption()
    files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, secret))
    return files


@pytest.mark.parametrize("kind", ["good", "expired", "of another host", "self-signed"])
async def test_a_certificate_is_verified(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """One that nobody trusts is refused before anything is sent, and may be mended: the request is not dead."""
    until = datetime.now(UTC) + timedelta(days=-1 if kind == "expired" else 1)
    certificate, key = certify(tmp_path, "127.0.0.9" if kind == "of another host" else "127.0.0.1", until)
    if kind != "self-signed":
        # Trusting it leaves one thing that is wrong with it.
        trusting = ssl.create_default_context(cafile=certificate)
        monkeypatch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", trusting)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    seen: list[bool] = []

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(True)
        await answering(b"{}")(reader, writer)

    async with playing(play, context) as port, client(timeout=5) as one:
        request = Request("POST", f"https://127.0.0.1:{port}/", body={})
        if kind == "good":
            assert (await one.send(request)).status == 200
        else:
            with pytest.raises(UnreachableError, match="ClientConnectorCertificateError"):
                await one.send(request)
    assert bool(seen) == (kind == "good")


@pytest.mark.parametrize("headers", [{"X-A": "1\r\nX-B: 2"}, {"X-A": "\0"}, {"X-A\n": "1"}])
async def test_a_header_that_would_break_the_request_is_unsendable(headers: dict[str, str]):
    """A line break or NUL in a header's name or value is unsendable, and nothing is sent."""
    async with playing(answering(b"{}")) as port, client() as one:
        with pytest.raises(UnsendableError):
            await one.send(Request("POST", f"http://127.0.0.1:{port}/", headers))


@pytest.mark.parametrize(("method", "url"), [("POST", "no url"), ("PO\r\nST", "http://127.0.0.1:1/")])
async def test_what_cannot_be_a_request_is_unsendable(method: str, url: str):
    """An invalid URL or method is unsendable."""
    async with client() as one:
        with pytest.raises(UnsendableError):
            await one.send(Request(method, url))


async def test_json_is_encoded_and_named():
    """A body that is data goes out as JSON with its Content-Type, one of bytes as it is."""
    heads: list[bytes] = []

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readexactly(7))
        await answering(b"{}")(reader, writer)

    async with playing(play) as port, client() as one:
        await one.send(Request("POST", f"http://127.0.0.1:{port}/", body={"a": 1}))
        await one.send(Request("POST", f"http://127.0.0.1:{port}/", body=b"1234567"))
    assert heads == [orjson.dumps({"a": 1}), b"1234567"]
