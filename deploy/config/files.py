"""What may stand in the file of a source and in the file of an integration."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, model_validator

from streams.collector.settings import SourceLimits, WebhookSettings
from streams.consent import Assumption, Consent, ConsentSettings
from streams.gate import Sample
from streams.settings import DeliverySettings, StrictModel
from streams.sources import ANY_ORIGIN

ORIGIN = r"^(\*|https?://(\*\.)?[a-z0-9.-]+(:[0-9]+)?)$"
Kind = Literal["track", "page", "screen", "identify", "group", "alias"]
TOPIC = r"^[A-Za-z0-9._-]{1,249}$"
NAME = r"^[a-z0-9][a-z0-9_-]{0,63}$"


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


class ExpectedRequest(StrictModel):
    """What goes to the vendor; only what is said is compared, of headers only those that are named."""

    method: str | None = None
    """`POST`, …, or `WRITE` where a file or database is written to."""
    url: str | None = None
    """The whole URL; `***` stands for each secret in it."""
    headers: dict[str, str] = Field(default_factory=dict)
    """Headers, in any case."""
    body: Any = None
    """The body: JSON, or text."""


Decision = Literal[
    "forwarded", "filtered", "opted_out", "consent", "sampled", "suppressed", "quarantined", "dead", "rejected"
]


class Expectation(StrictModel):
    """What is to become of a test's event; only what is said is compared."""

    outcome: Decision | None = None
    """What the router decides; `forwarded` where there is a request."""
    rule: str | None = None
    """The rule that takes the event; null where none does."""
    payload: Any = None
    """The payload, whole."""
    request: ExpectedRequest | None = None
    """The request."""
    reason: str | None = None
    """Why there is no request."""


class Case(StrictModel):
    """One test: an event, and what is to become of it."""

    name: str | None = None
    """What it shows."""
    event: dict[str, Any]
    """The event."""
    source: str | None = None
    """The source it comes from; by default one that the integration takes."""
    now: datetime | None = None
    """The time of its record, which an event without one gets."""
    expect: tuple[Expectation, ...] | Expectation | None = None
    """A list where several rules take the event; `turnout test --update` fills it in."""


class CaseFile(StrictModel):
    """`NAME.test.yaml` beside NAME.yaml."""

    tests: tuple[Case, ...]
    """Events, each with what is expected of it."""


class SourceExpectation(StrictModel):
    """What a source is to make of a test's event; only what is said is compared."""

    outcome: Literal["kept", "filtered", "suppressed", "quarantined", "rejected"] | None = None
    """Whether it goes on."""
    event: dict[str, Any] | None = None
    """The event as the integrations get it, whole."""
    reason: str | None = None
    """Why it does not go on."""
    notes: list[str] | None = None
    """What is noted of it, each `REASON: DETAIL`."""


class SourceCase(StrictModel):
    """One test of what a source makes of its events."""

    name: str | None = None
    """What it shows."""
    event: dict[str, Any]
    """The event; of a webhook's source `headers`, in lower case, and `body`."""
    expect: tuple[SourceExpectation, ...] | SourceExpectation | None = None
    """A list where a webhook makes several events; `turnout test --update` fills it in."""


class SourceCaseFile(StrictModel):
    """`NAME.test.yaml` beside a source's NAME.yaml."""

    tests: tuple[SourceCase, ...]
    """Events, each with what is expected of it."""


class SourceConsent(StrictModel):
    """What is known of the consent of a source's users."""

    assume: Assumption
    """What an event of this source that says nothing about consent counts as, whatever the integration assumes."""


class SourceFile(StrictModel):
    """`sources/NAME.yaml`: one place that events come from."""

    source: str = Field(pattern=NAME)
    """The source's name: that of the file."""
    write_keys: tuple[SecretStr, ...] = ()
    """Keys that clients send with their events, each from the environment: '${NAME}'."""
    disabled_keys: tuple[SecretStr, ...] = ()
    """Keys that were valid once: who still sends with one gets a 401 that says so, and is counted."""
    state: Literal["active", "disabled"] = "active"
    """`disabled`: the collector answers 404 to whoever sends with any of the keys."""
    origins: tuple[Annotated[str, Field(pattern=ORIGIN)], ...] = ANY_ORIGIN
    """Origins of the pages that may send with these keys, `https://shop.example.com` or `https://*.example.com`; by
    default any.
    """
    kinds: tuple[Kind, ...] | None = Field(None, min_length=1)
    """The types of events that are taken; by default all."""
    context: dict[str, Any] = Field(default_factory=dict)
    """What each event's `context` gets where the event says nothing of it."""
    consent: SourceConsent | None = None
    """What is known of its users' consent."""
    limits: SourceLimits = Field(default_factory=SourceLimits)
    """How much may be sent."""
    topics: tuple[Annotated[str, Field(pattern=TOPIC)], ...] = ()
    """Kafka topics of others whose records are this source's events, one a record; they must be there. What writes to
    `PREFIX.events` need not be named.
    """
    webhook: WebhookSettings | None = None
    """Have others post here in a form of their own. The rules make whole events of `$.headers` and `$.body`, instead of
    mending events.
    """
    plan: str | None = None
    """The tracking plan that its events are held against: `plans/NAME.yaml`."""
    enrich: dict[str, Any] = Field(default_factory=dict)
    """Enrichments by name, each with its settings: see enrichment.md. They run after the rules."""
    match: Any = None
    """`first` rule that matches mends the event, or `all`, one after the other."""
    map: Any = None
    """What every rule mends."""
    rules: Any = None
    """Rules that mend this source's events before the integrations get them, or drop them. A map is merged into the
    event, and null takes a key out.
    """
    otherwise: Any = None
    """`drop`, or a map for events that no rule takes; by default they stay."""
    tests: tuple[SourceCase, ...] = ()
    """Events, each with what the source makes of it."""


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
