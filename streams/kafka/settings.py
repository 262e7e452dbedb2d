"""Define how to connect to Kafka, and the options of each client library."""

import ssl
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, model_validator

from streams.settings import StrictModel

READ_COMMITTED: dict[str, str] = {"isolation_level": "read_committed"}
"""Consumers do not see records of open or aborted transactions; a partition's end is its last stable offset."""


class BrokerError(RuntimeError):
    """Kafka does not respond, or refuses a request; the message is one line for people."""


class Broker(StrictModel):
    """Connect to Kafka and log in; the key `broker` of turnout.yaml."""

    bootstrap: str = "127.0.0.1:9092"
    """Addresses of brokers, host:port, separated by commas."""
    security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """Kafka's security protocol."""
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    """The SASL mechanism."""
    username: str | None = None
    """The SASL user."""
    password: SecretStr | None = None
    """The SASL password, from the environment."""
    ca_file: Path | None = None
    """File of trusted certificates, PEM; by default those of the system."""
    cert_file: Path | None = None
    """File of the client's certificate, PEM."""
    key_file: Path | None = None
    """File of the client certificate's private key, PEM."""
    idempotent: bool = True
    """Use the idempotent producer, so that retries do not duplicate records; off only for the embedded broker."""
    session_timeout: float = Field(30.0, ge=6)
    """Seconds without a heartbeat before Kafka reassigns a worker's partitions."""
    rebalance_timeout: float = Field(60.0, ge=6)
    """Seconds that workers have to finish their batches before partitions are reassigned."""
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "zstd"
    """Compression of records; aiokafka's lz4 costs ten times the CPU of zstd or snappy."""

    @model_validator(mode="after")
    def _login_is_whole(self) -> Self:
        if self.security.startswith("SASL") and not (self.username and self.password):
            raise ValueError(f"security {self.security} needs username and password")
        return self

    @property
    def servers(self) -> list[str]:
        """Return the addresses as a list."""
        return [server.strip() for server in self.bootstrap.split(",")]

    @cached_property
    def _ssl(self) -> ssl.SSLContext | None:
        if not self.security.endswith("SSL"):
            return None
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.cert_file:
            context.load_cert_chain(self.cert_file, self.key_file)
        return context

    def _secret(self) -> str | None:
        return self.password.get_secret_value() if self.password else None

    def client(self) -> dict[str, Any]:
        """Return the arguments that aiokafka and kafka-python share."""
        login: dict[str, Any] = {}
        if self.security.startswith("SASL"):
            login = {
                "sasl_mechanism": self.mechanism,
                "sasl_plain_username": self.username,
                "sasl_plain_password": self._secret(),
            }
        return {
            "bootstrap_servers": self.servers,
            "security_protocol": self.security,
            "ssl_context": self._ssl,
            **login,
        }

    def consumer(self) -> dict[str, Any]:
        """Return the arguments of every consumer of aiokafka and kafka-python."""
        return {**self.client(), **READ_COMMITTED}

    def faust(self) -> dict[str, Any]:
        """Return the settings of a Faust app that concern the broker."""
        import faust

        settings: dict[str, Any] = {
            "broker": [f"kafka://{server}" for server in self.servers],
            "broker_session_timeout": self.session_timeout,
            "broker_heartbeat_interval": min(3.0, self.session_timeout / 6),
            "broker_rebalance_timeout": self.rebalance_timeout,
            "broker_request_timeout": max(90.0, self.session_timeout + 10),
        }
        if self.security.startswith("SASL"):
            settings["broker_credentials"] = faust.SASLCredentials(
                username=self.username, password=self._secret(), ssl_context=self._ssl, mechanism=self.mechanism
            )
        elif self._ssl:
            settings["broker_credentials"] = faust.SSLCredentials(context=self._ssl)
        return settings
