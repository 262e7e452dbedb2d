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
    """The consent that an event needs."""

    all: tuple[str, ...] | None = Field(None, min_length=1)
    """Categories that must all be granted."""
    any: tuple[str, ...] | None = Field(None, min_length=1)
    """Categories of which one must be granted."""
    assume: Assumption = "denied"
    """The consent of events without consent information, unless their source sets it."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.all is None) == (self.any is None):
            raise ValueError("give either `all` or `any`, a list of categories")
        return self

    def filter(self, settings: ConsentSettings) -> Consent:
        """Return the filter for the router."""
        categories = tuple(map(settings.category, self.all or self.any or ()))
        return Consent(categories, "all" if self.all else "any", self.assume)


class SampleFilter(StrictModel):
    """The sample of the events that is forwarded."""

    rate: float = Field(ge=0, le=1)
    """The share of the events, 0 to 1."""
    by: str = Field("userId", min_length=1)
    """Events with the same value of this field are either all forwarded or all left out."""

    @property
    def filter(self) -> Sample:
        """Return the filter for the router."""
        return Sample(self.rate, self.by)


class IntegrationFile(StrictModel):
    """`integrations/NAME.yaml`: an account at a vendor, and the rules for its events."""

    integration: str = Field(pattern=NAME)
    """The integration's name: the same as the file's. Its topic and consumer group contain it."""
    forwarder: str
    """The name of the forwarder that delivers."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """The forwarder's settings. Secrets come from the environment: '${NAME}'."""
    preset: str | None = None
    """The forwarder's preset: rules to start from."""
    state: Literal["active", "draining"] = "active"
    """`draining`: pending deliveries are still made, but no new events are forwarded."""
    mode: Literal["live", "shadow"] = "live"
    """`shadow`: events are mapped and checked, but not sent; their outcome is `filtered`."""
    sources: tuple[str, ...] | None = Field(None, min_length=1)
    """Sources whose events are forwarded. Default: all."""
    consent: ConsentFilter | None = None
    """The consent that an event needs. Default: none."""
    sample: SampleFilter | None = None
    """Forward only a sample of the events. Default: all."""
    delivery: DeliverySettings = Field(default_factory=DeliverySettings)
    """How requests are sent."""
    match: Any = None
    """`first`: only the first matching rule applies; `all`: every matching rule does."""
    map: Any = None
    """Fields of the payload of every rule."""
    rules: Any = None
    """The rules, in the order in which they are tried."""
    otherwise: Any = None
    """`drop`, or a map for events that match no rule."""
    tests: tuple[Case, ...] = ()
    """Test events with expected results, for `turnout test`."""
