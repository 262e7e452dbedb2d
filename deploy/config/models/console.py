"""Settings of the console."""

from enum import StrEnum
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from streams.ledger.settings import LOOPBACK
from streams.settings import StrictModel

ANYONE = "*"
"""In a list of groups: every user whom the provider lets in."""


class SaveMode(StrEnum):
    """How the console saves changed files."""

    LIVE = "live"
    """Writes them in the folder that workers read; commits them on the current branch if that is a git repository."""
    PROPOSAL = "proposal"
    """Commits them on a new branch, and leaves the folder as it is."""


class OidcSettings(StrictModel):
    """Log in with an OpenID Connect provider, such as Keycloak, Google, Entra ID or Okta."""

    issuer: str = Field(pattern=r"^https?://[^/?#\s]+(/[^?#\s]*)?$")
    """The provider's issuer, as its `.well-known/openid-configuration` names it."""
    client_id: str = Field(min_length=1)
    """The console's client ID at the provider."""
    client_secret: SecretStr
    """The client secret."""
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    """The requested scopes. Some providers send groups only if a scope requests them."""
    groups_claim: str = "groups"
    """The claim of the ID token that lists the user's groups."""
    viewers: tuple[str, ...] = (ANYONE,)
    """Groups whose users may view the console, with personal data masked; `*` is every user."""
    operators: tuple[str, ...] = ()
    """Groups whose users may also see personal data, and replay, pause and resume."""
    editors: tuple[str, ...] = ()
    """Groups whose users may also change the configuration."""

    @field_validator("issuer")
    @classmethod
    def _is_safe(cls, issuer: str) -> str:
        if not issuer.startswith("https:") and urlsplit(issuer).hostname not in LOOPBACK:
            raise ValueError("an issuer that is not on this machine needs https")
        return issuer

    @field_validator("scopes")
    @classmethod
    def _asks_for_an_id_token(cls, scopes: tuple[str, ...]) -> tuple[str, ...]:
        if "openid" not in scopes:
            raise ValueError("`openid` is needed")
        return scopes


class ConsoleSettings(StrictModel):
    """The key `console` of turnout.yaml."""

    host: str = "127.0.0.1"
    """Address to serve the console on; an address that is not loopback needs `oidc`."""
    port: int = Field(8070, ge=0, le=65535)
    """Port to serve the console on; 0 picks a free port, which is logged."""
    url: str | None = Field(None, pattern=r"^https?://[^/?#\s]+/?$")
    """The address that users type, if a proxy is in front of the console; by default `http://HOST:PORT`. With https,
    cookies are sent only over TLS.
    """
    audit_log: Path | None = None
    """File, relative to the configuration folder, to which every action is appended as a line of JSON. Actions are also
    in the log.
    """
    save: SaveMode = SaveMode.LIVE
    """How the console saves changed files. `live`: in the folder that workers read, with a commit on the current branch
    if git keeps it. `proposal`: only as a commit on a new branch, for a review.
    """
    oidc: OidcSettings | None = None
    """The provider that users log in with. Without it, the console prints a link with a one-time code; whoever opens it
    is an editor.
    """

    @field_validator("url")
    @classmethod
    def _without_slash(cls, url: str | None) -> str | None:
        return url and url.rstrip("/")

    @model_validator(mode="after")
    def _is_protected(self) -> Self:
        if self.host not in LOOPBACK and self.oidc is None:
            raise ValueError("an address that is not loopback needs `oidc`")
        return self

    def address(self, port: int) -> str:
        """Return the URL that users type, for the port that is listened on."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return self.url or f"http://{f'[{host}]' if ':' in host else host}:{port}"
