"""Settings of the collector and of webhooks."""

from ipaddress import ip_network
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from streams.collector.api import check_free
from streams.settings import StrictModel

PATH = r"^(/[A-Za-z0-9._~-]+)+$"


class ClientSettings(StrictModel):
    """The key `client` in `collector`."""

    path: str = Field(pattern=PATH)
    """Path at which the browser client's script is served; any path of your choice."""
    file: Path
    """The client's script, from its npm package; relative to the configuration folder."""

    @field_validator("path")
    @classmethod
    def _is_free(cls, path: str) -> str:
        return check_free(path)


class CollectorSettings(StrictModel):
    """The key `collector` of turnout.yaml."""

    host: str = "0.0.0.0"
    """Address to listen on; the default is every interface."""
    port: int = Field(8080, ge=0, le=65535)
    """Port to listen on; 0 picks a free port."""
    event_bytes: int = Field(32 * 1024, ge=1024, le=512 * 1024)
    """Maximum size of an event in bytes: its JSON without whitespace, including the batch's context."""
    body_bytes: int = Field(4 * 1024 * 1024, ge=1024)
    """Maximum size of a request body in bytes, compressed and decompressed."""
    batch_events: int = Field(10_000, ge=1)
    """Maximum number of events per batch."""
    held_bytes: int = Field(64 * 1024 * 1024, ge=1024)
    """Maximum bytes in memory: requests being read, and events that Kafka has not confirmed. Further requests get a
    503.
    """
    read_timeout: float = Field(30.0, gt=0)
    """Seconds within which a client must send a whole request."""
    confirm_timeout: float = Field(15.0, gt=0)
    """Seconds to wait for Kafka to confirm a request's events before responding with 503."""
    keep_alive: int = Field(75, ge=1)
    """Seconds before an idle connection is closed. Use more than the timeout of the load balancer in front."""
    trusted_proxies: tuple[str, ...] = ()
    """Trusted proxies, whose X-Forwarded-For and Forwarded headers are used: addresses, networks (`10.0.0.0/8`), and
    `unix` for peers on a Unix socket. Events from browsers without `context.ip` get the address in these headers.
    """
    client: ClientSettings | None = None
    """Serve the browser client's script from the collector; off by default."""
    cookie_domain: str | None = Field(None, pattern=r"^\.?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$")
    """The domain that the site's hosts share, such as `example.com`. The collector renews the browser clients'
    anonymous ID cookies for this domain, for one year. By default it sets no cookies.
    """

    def resolve_paths(self, folder: Path) -> Self:
        """Return these settings with file names resolved against `folder`."""
        if self.client is None:
            return self
        client = self.client.model_copy(update={"file": folder / self.client.file})
        return self.model_copy(update={"client": client})

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        # make_resolve accepts the same values; importing it here would slow down every command.
        for proxy in proxies:
            if proxy != "unix":
                ip_network(proxy)
        return proxies


SIGNATURE_HEADERS = {
    "github": "X-Hub-Signature-256",
    "stripe": "Stripe-Signature",
    "standard-webhooks": "webhook-signature",
}


class SignatureSettings(StrictModel):
    """The key `webhook.signature` of a source's file."""

    scheme: Literal["github", "stripe", "standard-webhooks", "hmac-sha256"]
    """How the sender signs: like GitHub, like Stripe, by standardwebhooks.com (Svix and others), or with a header that
    contains only the HMAC of the body.
    """
    secret: SecretStr
    """The secret shared with the sender, from the environment: '${NAME}'."""
    header: str | None = Field(None, min_length=1)
    """The header with the signature; the default depends on the scheme."""
    encoding: Literal["hex", "base64"] = "hex"
    """Encoding of the signature for `hmac-sha256`."""
    prefix: str = ""
    """Text before the signature in the header for `hmac-sha256`."""
    tolerance: float = Field(300.0, gt=0)
    """Maximum age in seconds of a signature with a timestamp (Stripe, standardwebhooks.com)."""

    @model_validator(mode="after")
    def _names_its_header(self) -> Self:
        if self.header is None and self.scheme not in SIGNATURE_HEADERS:
            raise ValueError("`header` is required: the header that holds the signature")
        return self

    @property
    def header_name(self) -> str:
        """The header with the signature."""
        return self.header or SIGNATURE_HEADERS[self.scheme]


class SourceWebhookSettings(StrictModel):
    """The key `webhook` of a source's file."""

    path: str | None = Field(None, pattern=PATH)
    """Path that receives deliveries; by default `/v1/webhook/` and the source's name."""
    signature: SignatureSettings | None = None
    """How deliveries are signed; by default the sender uses a write key as the user of Basic authorization."""

    @field_validator("path")
    @classmethod
    def _is_free(cls, path: str | None) -> str | None:
        return path and check_free(path)
