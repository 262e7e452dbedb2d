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
    """Where pages load the browser client from: any path of your choice."""
    file: Path
    """The client's script, from its package on npm; relative to the configuration folder."""

    @field_validator("path")
    @classmethod
    def _is_free(cls, path: str) -> str:
        return check_free(path)


class CollectorSettings(StrictModel):
    """The key `collector` of turnout.yaml."""

    host: str = "0.0.0.0"
    """Address to listen on; the default is every interface."""
    port: int = Field(8080, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""
    event_bytes: int = Field(32 * 1024, ge=1024, le=512 * 1024)
    """Largest event in bytes: its JSON without blanks, with what it gets from the batch's context."""
    body_bytes: int = Field(4 * 1024 * 1024, ge=1024)
    """Largest body of a request in bytes, sent and decompressed."""
    batch_events: int = Field(10_000, ge=1)
    """Most events in one batch."""
    held_bytes: int = Field(64 * 1024 * 1024, ge=1024)
    """Bytes of requests being read and of events not confirmed yet, from which on requests get a 503."""
    read_timeout: float = Field(30.0, gt=0)
    """Seconds that a client has to send a whole request."""
    confirm_timeout: float = Field(15.0, gt=0)
    """Seconds that Kafka has to confirm a request's events before it gets a 503."""
    keep_alive: int = Field(75, ge=1)
    """Seconds that an idle connection stays open; more than the load balancer's in front."""
    trusted_proxies: tuple[str, ...] = ()
    """Proxies whose X-Forwarded-For and Forwarded are believed: addresses and networks (`10.0.0.0/8`), and `unix` for
    peers on a Unix socket. Browsers' events without `context.ip` get the address that these headers give.
    """
    client: ClientSettings | None = None
    """The browser client's script, served from here; by default none is."""
    cookie_domain: str | None = Field(None, pattern=r"^\.?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$")
    """The domain that the site's hosts share, `example.com`: for it the browser clients' anonymous ids are set again as
    cookies of the server, which last a year. By default they are left as they are.
    """

    def below(self, folder: Path) -> Self:
        """These settings with the names of files made whole."""
        if self.client is None:
            return self
        client = self.client.model_copy(update={"file": folder / self.client.file})
        return self.model_copy(update={"client": client})

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        # make_resolve accepts the same; importing it would slow every command.
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
    """How the sender signs: as GitHub, as Stripe, by standardwebhooks.com (Svix and others), or with a header that
    holds the HMAC of the body and nothing else.
    """
    secret: SecretStr
    """The secret shared with the sender, from the environment: '${NAME}'."""
    header: str | None = Field(None, min_length=1)
    """The header with the signature; by default the scheme's own."""
    encoding: Literal["hex", "base64"] = "hex"
    """How `hmac-sha256` is written."""
    prefix: str = ""
    """What stands before the signature of `hmac-sha256`."""
    tolerance: float = Field(300.0, gt=0)
    """Seconds that a signature with a time (Stripe, standardwebhooks.com) is good for."""

    @model_validator(mode="after")
    def _names_its_header(self) -> Self:
        if self.header is None and self.scheme not in SIGNATURE_HEADERS:
            raise ValueError("give the `header` that holds the signature")
        return self

    @property
    def header_name(self) -> str:
        """The header with the signature."""
        return self.header or SIGNATURE_HEADERS[self.scheme]


class SourceWebhookSettings(StrictModel):
    """The key `webhook` of a source's file."""

    path: str | None = Field(None, pattern=PATH)
    """Where deliveries are posted; by default `/v1/webhook/` and the source's name."""
    signature: SignatureSettings | None = None
    """How deliveries are signed; by default the sender shows a write key by Basic authorization."""

    @field_validator("path")
    @classmethod
    def _is_free(cls, path: str | None) -> str | None:
        return path and check_free(path)
