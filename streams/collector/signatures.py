"""Verify webhook signatures with constant-time comparisons."""

import hmac
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from hashlib import sha256

from streams.collector.settings import SignatureSettings

Verify = Callable[[bytes, Mapping[bytes, bytes], float], bool]
"""Return whether a signature is valid, from the raw body, the request's headers and the time (seconds since 1970)."""


def make_verify(settings: SignatureSettings) -> Verify:
    """Return a function that verifies signatures according to the settings."""
    header = settings.header_name.lower().encode()
    secret = settings.secret.get_secret_value().encode()
    if settings.scheme == "stripe":
        return _stripe(header, secret, settings.tolerance)
    if settings.scheme == "standard-webhooks":
        return _standard(header, secret, settings.tolerance)
    prefix = b"sha256=" if settings.scheme == "github" else settings.prefix.encode()
    encoding = "hex" if settings.scheme == "github" else settings.encoding
    return _plain(header, secret, prefix, _encode_hex if encoding == "hex" else b64encode)


def _plain(header: bytes, secret: bytes, prefix: bytes, encode: Callable[[bytes], bytes]) -> Verify:
    """Verify a header with the HMAC of the body, as sent by GitHub, Shopify and most others."""

    def verify(body: bytes, headers: Mapping[bytes, bytes], _now: float) -> bool:
        return hmac.compare_digest(headers.get(header, b""), prefix + encode(_sign(secret, body)))

    return verify


def _stripe(header: bytes, secret: bytes, tolerance: float) -> Verify:
    """Verify `t=SECONDS,v1=HEX,…` over `SECONDS.BODY`; there are several v1 while a secret is rotated."""

    def verify(body: bytes, headers: Mapping[bytes, bytes], now: float) -> bool:
        parts = [part.strip().partition(b"=") for part in headers.get(header, b"").split(b",")]
        at = next((value for name, _, value in parts if name == b"t"), b"")
        expected = _encode_hex(_sign(secret, at + b"." + body))
        given = [value for name, _, value in parts if name == b"v1"]
        return _is_recent(at, now, tolerance) and _is_among(expected, given)

    return verify


def _standard(header: bytes, secret: bytes, tolerance: float) -> Verify:
    """Verify standardwebhooks.com signatures, as sent by Svix.

    The header is `v1,BASE64 …` over `ID.SECONDS.BODY`; the secret is `whsec_BASE64`.
    """
    key = b64decode(secret.removeprefix(b"whsec_"))
    stem = header.removesuffix(b"signature")

    def verify(body: bytes, headers: Mapping[bytes, bytes], now: float) -> bool:
        message, at = headers.get(stem + b"id", b""), headers.get(stem + b"timestamp", b"")
        expected = b64encode(_sign(key, b".".join((message, at, body))))
        given = [value.removeprefix(b"v1,") for value in headers.get(header, b"").split() if value.startswith(b"v1,")]
        return _is_recent(at, now, tolerance) and _is_among(expected, given)

    return verify


def _sign(secret: bytes, text: bytes) -> bytes:
    return hmac.digest(secret, text, sha256)


def _encode_hex(digest: bytes) -> bytes:
    return digest.hex().encode()


def _is_recent(at: bytes, now: float, tolerance: float) -> bool:
    return at.isdigit() and len(at) < 16 and abs(now - int(at)) <= tolerance


def _is_among(expected: bytes, given: list[bytes]) -> bool:
    return any(hmac.compare_digest(one, expected) for one in given)
