"""Model of the file of an integration."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from deploy.config.models.names import NAME
from deploy.config.models.tests import Case
from streams.consent.policy import Assumption, Consent, ConsentSettings
from streams.delivery.flow.settings import DeliverySettings
from streams.routing.eligibility import Sample
from streams.settings import StrictModel


class ConsentFilter(StrictModel):
    """Which consent an event needs."""

    all: tuple[str, ...] | None = Field(None, min_length=1)
    """Categories that must all be granted."""
    any: tuple[str, ...] | None = Field(None, min_length=1)
    """Categories of which one must be granted."""
    assume: Assumption = "denied"
    """What an event that says nothing about consent counts as, unless its source says so."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.all is None) == (self.any is None):
            raise ValueError("give either `all` or `any`, a list of categories")
        return self

    def filter(self, settings: ConsentSettings) -> Consent:
        """As the router reads it."""
        categories = tuple(map(settings.category, self.all or self.any or ()))
        return Consent(categories, "all" if self.all else "any", self.assume)


class SampleFilter(StrictModel):
    """Which part of the events is forwarded."""

    rate: float = Field(ge=0, le=1)
    """The part of the events, 0 to 1."""
    by: str = Field("userId", min_length=1)
    """Events that share this field are forwarded all or none."""

    @property
    def filter(self) -> Sample:
        """As the router reads it."""
        return Sample(self.rate, self.by)


class IntegrationFile(StrictModel):
    """`integrations/NAME.yaml`: one vendor's account, and the rules for what it gets."""

    integration: str = Field(pattern=NAME)
    """The integration's name: that of the file, and in its topic and consumer group."""
    forwarder: str
    """The forwarder that delivers, by the name it is registered under."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """The forwarder's settings; its secrets come from the environment: '${NAME}'."""
    preset: str | None = None
    """Take the rules that this forwarder brings along as a base."""
    state: Literal["active", "draining"] = "active"
    """`draining`: what is waiting is still delivered, and nothing new is taken up."""
    mode: Literal["live", "shadow"] = "live"
    """`shadow`: events are mapped and checked, and nothing is sent; their outcome is `filtered`."""
    sources: tuple[str, ...] | None = Field(None, min_length=1)
    """Sources whose events are forwarded; by default all."""
    consent: ConsentFilter | None = None
    """The consent that an event needs; by default none."""
    sample: SampleFilter | None = None
    """Forward only a part of the events; by default all."""
    delivery: DeliverySettings = Field(default_factory=DeliverySettings)
    """How requests are made."""
    match: Any = None
    """`first` rule that matches takes the event, or `all`."""
    map: Any = None
    """Fields that the payload of every rule gets."""
    rules: Any = None
    """The rules, tried in their order."""
    otherwise: Any = None
    """`drop`, or a map for events that no rule takes."""
    tests: tuple[Case, ...] = ()
    """Events, each with what is expected of it: for `turnout test`."""
