"""What may stand in the file of a source and in the file of an integration."""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from streams.ruleset import Consent, Sample
from streams.settings import DeliverySettings

NAME = r"^[a-z0-9][a-z0-9_-]{0,63}$"


class SourceFile(BaseModel):
    """`sources/NAME.yaml`: one place that events come from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str = Field(pattern=NAME, description="The source's name: that of the file.")
    write_keys: tuple[SecretStr, ...] = Field(
        (), description="Keys that clients send with their events, each from the environment: '${NAME}'."
    )


class ConsentFilter(BaseModel):
    """Which consent an event needs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    all: tuple[str, ...] | None = Field(None, min_length=1, description="Categories that must all be granted.")
    any: tuple[str, ...] | None = Field(None, min_length=1, description="Categories of which one must be granted.")
    assume: Literal["granted", "denied"] = Field(
        "denied", description="What an event that says nothing about consent counts as."
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.all is None) == (self.any is None):
            raise ValueError("give either `all` or `any`, a list of categories")
        return self

    @property
    def filter(self) -> Consent:
        """As the router reads it."""
        return Consent(self.all or self.any or (), "all" if self.all else "any", self.assume)


class SampleFilter(BaseModel):
    """Which part of the events is forwarded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rate: float = Field(ge=0, le=1, description="The part of the events, 0 to 1.")
    by: str = Field("userId", min_length=1, description="Events that share this field are forwarded all or none.")

    @property
    def filter(self) -> Sample:
        """As the router reads it."""
        return Sample(self.rate, self.by)


class IntegrationFile(BaseModel):
    """`integrations/NAME.yaml`: one vendor's account, and the rules for what it gets."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    integration: str = Field(
        pattern=NAME, description="The integration's name: that of the file, and in its topic and consumer group."
    )
    forwarder: str = Field(description="The forwarder that delivers, by the name it is registered under.")
    settings: dict[str, Any] = Field(
        default_factory=dict, description="The forwarder's settings; its secrets come from the environment: '${NAME}'."
    )
    preset: str | None = Field(None, description="Take the rules that this forwarder brings along as a base.")
    state: Literal["active", "draining"] = Field(
        "active", description="`draining`: what is waiting is still delivered, and nothing new is taken up."
    )
    sources: tuple[str, ...] | None = Field(
        None, min_length=1, description="Sources whose events are forwarded; by default all."
    )
    consent: ConsentFilter | None = Field(None, description="The consent that an event needs; by default none.")
    sample: SampleFilter | None = Field(None, description="Forward only a part of the events; by default all.")
    delivery: DeliverySettings = Field(default_factory=DeliverySettings, description="How requests are made.")
    match: Any = Field(None, description="`first` rule that matches takes the event, or `all`.")
    map: Any = Field(None, description="Fields that the payload of every rule gets.")
    rules: Any = Field(None, description="The rules, tried in their order.")
    otherwise: Any = Field(None, description="`drop`, or a map for events that no rule takes.")
    tests: Any = Field(None, description="Events with the rule and payload that are expected of them.")
