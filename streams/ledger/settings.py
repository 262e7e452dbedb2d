"""Settings of the ledger."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from streams.settings import StrictModel

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class ClickHouseAddress(StrictModel):
    """The key `ledger.clickhouse` of turnout.yaml."""

    url: str = Field(pattern=r"^https?://[^/?#\s@]+(/[^/?#\s]*)?$")
    """Address of ClickHouse's HTTP interface with the database as its path: `https://clickhouse.internal:8443/turnout`.
    The database must exist; the ledger creates its tables.
    """
    user: str = "default"
    """User that may create, read and change tables in the database."""
    password: SecretStr = SecretStr("")
    """The user's password, from the environment or a file."""


class LedgerSettings(StrictModel):
    """The key `ledger` of turnout.yaml."""

    store: Literal["sqlite", "clickhouse"] = "sqlite"
    """Where the ledger keeps its data: in files, or in ClickHouse if one machine is not enough."""
    clickhouse: ClickHouseAddress | None = None
    """How to reach ClickHouse, for `store: clickhouse`."""
    folder: Path = Path("ledger")
    """Folder of the ledger's files, relative to the configuration folder. One process uses it. If you delete it, the
    ledger is rebuilt from Kafka.
    """
    host: str = "127.0.0.1"
    """Address to serve the API on; an address that is not loopback needs a `token`."""
    port: int = Field(8090, ge=0, le=65535)
    """Port to serve the API on; 0 picks a free port, which is logged."""
    url: str | None = Field(None, pattern=r"^https?://[^/?#\s]+(/[^?#\s]*)?$")
    """URL at which commands reach the API; by default `http://HOST:PORT`."""
    token: SecretStr | None = None
    """Token that requests to the API must carry; the ledger and the commands use the same."""
    user_key: SecretStr | None = Field(None, min_length=16)
    """Key of the digests by which the ledger finds a user's events; any random text of 16 characters or more. Without
    it the ledger has no index of users, and `turnout why --user` fails with a message.
    """
    retention_days: int | None = Field(None, ge=1)
    """Days for which the ledger keeps the outcomes of an event; by default as long as topics keep events."""

    sample_per_second: int = Field(20, ge=0, le=1000)
    """Events per second to sample for the catalog of event and property names; 0 turns the catalog off. Only names and
    types are kept.
    """

    @field_validator("url")
    @classmethod
    def _without_slash(cls, url: str | None) -> str | None:
        return url and url.rstrip("/")

    @model_validator(mode="after")
    def _is_protected(self) -> Self:
        if self.host not in LOOPBACK and self.token is None:
            raise ValueError("an address that is not loopback needs a `token`")
        return self

    @model_validator(mode="after")
    def _knows_clickhouse(self) -> Self:
        if self.store == "clickhouse" and self.clickhouse is None:
            raise ValueError("`store: clickhouse` needs `clickhouse: {url: …}`")
        return self

    @property
    def address(self) -> str:
        """The URL by which commands reach the API."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return self.url or f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def key(self) -> bytes | None:
        """The key of the index of users as bytes."""
        return self.user_key.get_secret_value().encode() if self.user_key else None
