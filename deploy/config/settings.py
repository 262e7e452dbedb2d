"""What may stand in turnout.yaml; any of it may come from the environment instead, which wins."""

from typing import Any

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from streams.collector.settings import CollectorSettings
from streams.consent.policy import ConsentSettings
from streams.kafka.settings import Broker
from streams.ledger.settings import LedgerSettings
from streams.routing.settings import RouterSettings
from streams.suppression.filter import SuppressionSettings
from streams.topics import Topics

PREFIX = "TURNOUT_"
DELIMITER = "__"

# Tansu has no idempotent produce, and a joining worker waits for half of the session time-out.
EMBEDDED_BROKER = {"idempotent": False, "session_timeout": 6.0, "rebalance_timeout": 6.0}


class TurnoutSettings(BaseSettings):
    """The keys of turnout.yaml.

    `TURNOUT_PREFIX` in the environment stands for `prefix`, `TURNOUT_BROKER__BOOTSTRAP` for `bootstrap` in `broker`.
    """

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        env_prefix=PREFIX,
        env_nested_delimiter=DELIMITER,
    )

    prefix: str = Field("turnout", pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    """Begins the names of all topics, groups and clients, so that environments can share a Kafka."""
    embedded: bool = False
    """Have `turnout up` start a broker at `broker.bootstrap`, which keeps its data in memory only. It sets the broker's
    `idempotent`, `session_timeout` and `rebalance_timeout`.
    """
    broker: Broker = Field(default_factory=Broker)
    """Where Kafka is, and how to log in."""
    partitions: int = Field(12, ge=1, le=1000)
    """Partitions of each topic: the most workers of a kind."""
    replication: int = Field(3, ge=1, le=32)
    """Copies that Kafka keeps of each topic."""
    retention_days: int = Field(7, ge=1)
    """Days that topics keep events; dead letters and rejected events stay four times as long."""
    default_source: str | None = None
    """Source of records in the events topic that name neither a source nor a write key."""
    collector: CollectorSettings = Field(default_factory=CollectorSettings)
    """The HTTP entrance."""
    consent: ConsentSettings = Field(default_factory=ConsentSettings)
    """What the signals of consent say that name no categories."""
    suppression: SuppressionSettings = Field(default_factory=SuppressionSettings)
    """Users that nothing is forwarded for."""
    router: RouterSettings = Field(default_factory=RouterSettings)
    """From events to deliveries."""
    ledger: LedgerSettings = Field(default_factory=LedgerSettings)
    """What happened to each event."""
    grace: float = Field(25.0, ge=3)
    """Seconds that a process may take to stop in order."""
    metrics_port: int | None = Field(None, ge=0, le=65532)
    """Port where a collector serves its metrics; a router, a forwarder and a ledger take the next three. 0 takes free
    ones, which the log names. By default there are none.
    """
    metrics_host: str = "0.0.0.0"
    """Address to serve metrics on; the default is every interface."""
    simulator_port: int | None = Field(None, ge=1, le=65535)
    """Port where `turnout up` starts a simulator of the vendors; by default it starts none."""

    @field_validator("broker")
    @classmethod
    def _suits_embedded(cls, broker: Broker, info: ValidationInfo) -> Broker:
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
        """The environment, then the file, whose data the constructor gets."""
        return env_settings, init_settings

    @property
    def topics(self) -> Topics:
        """The topics of this environment."""
        return Topics(self.prefix, self.partitions, self.retention_days)


def variable(place: tuple[Any, ...]) -> str:
    """The environment variable that stands for the setting at this place."""
    return PREFIX + DELIMITER.join(str(step) for step in place).upper()
