"""The settings in turnout.yaml; environment variables override them."""

from typing import Any

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from deploy.config.models.console import ConsoleSettings
from streams.collector.settings import CollectorSettings
from streams.consent.policy import ConsentSettings
from streams.kafka.gaps import OnGap
from streams.kafka.settings import Broker
from streams.ledger.settings import LedgerSettings
from streams.routing.settings import RouterSettings
from streams.steps.enrichment.memory import VisitorMemorySettings
from streams.suppression.filter import SuppressionSettings
from streams.topics import Topics

PREFIX = "TURNOUT_"
DELIMITER = "__"

# Tansu has no idempotent produce, and a worker that joins waits for half of the session timeout.
EMBEDDED_BROKER = {"idempotent": False, "session_timeout": 6.0, "rebalance_timeout": 6.0}


class TurnoutSettings(BaseSettings):
    """The keys of turnout.yaml.

    The environment variable `TURNOUT_PREFIX` sets `prefix`, and `TURNOUT_BROKER__BOOTSTRAP` sets `broker.bootstrap`.
    """

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        env_prefix=PREFIX,
        env_nested_delimiter=DELIMITER,
    )

    prefix: str = Field("turnout", pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    """The prefix of all topics, groups and clients, so that environments can share a Kafka cluster."""
    embedded: bool = False
    """Have `turnout up` start a broker at `broker.bootstrap` that keeps its data only in memory. This overrides the
    broker's `idempotent`, `session_timeout` and `rebalance_timeout`.
    """
    broker: Broker = Field(default_factory=Broker)
    """The address of Kafka, and how to log in."""
    partitions: int = Field(12, ge=1, le=1000)
    """Partitions of each topic: the maximum number of workers that share it."""
    replication: int = Field(3, ge=1, le=32)
    """Replicas of each topic."""
    retention_days: int = Field(7, ge=1)
    """Days for which topics keep events. Dead letters and rejected events are kept four times as long."""
    on_gap: OnGap = "continue"
    """If Kafka's retention removed records before a router or forwarder read them: `continue` records them as `lost`;
    `stop` ends the process with exit code 1 before it skips any.
    """
    default_source: str | None = None
    """The source of records in the events topic that name neither a source nor a write key."""
    collector: CollectorSettings = Field(default_factory=CollectorSettings)
    """The HTTP collector."""
    consent: ConsentSettings = Field(default_factory=ConsentSettings)
    """The categories for consent signals that do not name any."""
    suppression: SuppressionSettings = Field(default_factory=SuppressionSettings)
    """Users whose events are not forwarded."""
    memory: VisitorMemorySettings = Field(default_factory=VisitorMemorySettings)
    """Settings of the enrichment `memory` for all sources."""
    router: RouterSettings = Field(default_factory=RouterSettings)
    """Settings of routers."""
    ledger: LedgerSettings = Field(default_factory=LedgerSettings)
    """Settings of the ledger, and where commands reach it."""
    console: ConsoleSettings = Field(default_factory=ConsoleSettings)
    """Settings of the console, which shows everything in a browser."""
    grace: float = Field(25.0, ge=3)
    """Seconds that a process may take to finish its work when it is stopped."""
    fetched_bytes: int = Field(256 * 1024 * 1024, ge=16 * 1024 * 1024)
    """Maximum bytes of memory for deliveries that a forwarder has fetched but not finished. Its integrations have equal
    shares of them.
    """
    metrics_port: int | None = Field(9400, ge=0, le=65532)
    """Port for a collector's metrics and health; a router, a forwarder and a ledger use the next three. 0 picks free
    ports, which are logged. If a default port is in use, a free one is picked. null serves nothing.
    """
    metrics_host: str = "127.0.0.1"
    """Address for the metrics; the default is reached only from this machine. 0.0.0.0 is every interface."""
    simulator_port: int | None = Field(None, ge=1, le=65535)
    """Port on which `turnout up` starts a simulator of the vendors. By default, none is started."""

    @field_validator("broker")
    @classmethod
    def _adapt_to_embedded(cls, broker: Broker, info: ValidationInfo) -> Broker:
        return broker.model_copy(update=EMBEDDED_BROKER) if info.data.get("embedded") else broker

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Prefer the environment to the file, whose data is passed to the constructor."""
        return env_settings, init_settings

    @property
    def topics(self) -> Topics:
        """The topics of this environment."""
        return Topics(self.prefix, self.partitions, self.retention_days)


def variable(place: tuple[Any, ...]) -> str:
    """Return the environment variable of the setting at this place."""
    return PREFIX + DELIMITER.join(str(step) for step in place).upper()
