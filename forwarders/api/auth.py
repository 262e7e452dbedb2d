"""Authentication methods for endpoints that users choose, and validation of header names and values."""

import hmac
import re
from base64 import b64encode
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr
from typing_extensions import override

from forwarders.api.contract import Settings

OWN_HEADERS = {
    "authorization": "use `auth`",
    "content-type": "it is always application/json",
    "idempotency-key": "it is the delivery's id",
    **dict.fromkeys(("connection", "content-length", "host", "transfer-encoding"), "it belongs to HTTP itself"),
}


def _check_name(name: str) -> str:
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):  # a token of RFC 9110, 5.6.2
        raise ValueError("invalid header name: use letters, digits and hyphens")
    if hint := OWN_HEADERS.get(name.lower()):
        raise ValueError(f"the header {name} cannot be set: {hint}")
    return name


def _check_value(value: str) -> str:
    if not (value.isascii() and value.isprintable()):
        raise ValueError("header values must be printable ASCII")
    return value


def _check_secret(secret: SecretStr) -> SecretStr:
    _check_value(secret.get_secret_value())
    return secret


HeaderName = Annotated[str, AfterValidator(_check_name)]
"""A header name in a setting, except headers that a forwarder or HTTP sets."""

HeaderValue = Annotated[str, AfterValidator(_check_value)]
"""A header value: printable ASCII, without line breaks."""

Secret = Annotated[SecretStr, Field(min_length=1)]
"""A secret. It must not be empty, so that an empty environment variable is rejected."""

HeaderSecret = Annotated[Secret, AfterValidator(_check_secret)]
"""A secret that is sent in a header."""


class Credentials(Settings):
    """Base class of the authentication methods."""

    def headers(self, body: bytes) -> dict[str, str]:
        """Return the headers that authenticate a request with this body."""
        raise NotImplementedError


class Bearer(Credentials):
    """Sends `Authorization: Bearer TOKEN` (RFC 6750)."""

    type: Literal["bearer"]
    token: HeaderSecret
    """The token."""

    @override
    def headers(self, body: bytes) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token.get_secret_value()}"}


class Basic(Credentials):
    """Sends `Authorization: Basic …` (RFC 7617)."""

    type: Literal["basic"]
    username: Annotated[str, Field(pattern="^[^:]*$")]
    """The user."""
    password: SecretStr
    """The password."""

    @override
    def headers(self, body: bytes) -> dict[str, str]:
        return {"Authorization": basic(self.username, self.password)}


class Header(Credentials):
    """Sends a secret in any header, such as `X-Api-Key`."""

    type: Literal["header"]
    name: HeaderName
    """The header's name."""
    value: HeaderSecret
    """The header's value."""

    @override
    def headers(self, body: bytes) -> dict[str, str]:
        return {self.name: self.value.get_secret_value()}


class Signature(Credentials):
    """Sends the HMAC-SHA256 of the body in a header, as `sha256=HEX`."""

    type: Literal["hmac"]
    secret: Secret
    """The signing key."""
    header: HeaderName = "X-Signature-256"
    """The header that contains the signature."""

    @override
    def headers(self, body: bytes) -> dict[str, str]:
        return {self.header: "sha256=" + hmac.digest(self.secret.get_secret_value().encode(), body, "sha256").hex()}


AnyCredentials = Annotated[Bearer | Basic | Header | Signature, Field(discriminator="type")]


def basic(username: str, password: SecretStr | str) -> str:
    """Return the value of an Authorization header for a user and a password (RFC 7617, in UTF-8)."""
    text = password if isinstance(password, str) else password.get_secret_value()
    return "Basic " + b64encode(f"{username}:{text}".encode()).decode()
