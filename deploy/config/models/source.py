"""Model of the file of a source."""

from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr

from deploy.config.models.names import NAME
from deploy.config.models.tests import SourceCase
from streams.collector.settings import SourceWebhookSettings
from streams.consent.policy import Assumption
from streams.settings import StrictModel
from streams.sources.limits import SourceLimits
from streams.sources.source import ANY_ORIGIN

ORIGIN = r"^(\*|https?://(\*\.)?[a-z0-9.-]+(:[0-9]+)?)$"
Kind = Literal["track", "page", "screen", "identify", "group", "alias"]
TOPIC = r"^[A-Za-z0-9._-]{1,249}$"


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
    webhook: SourceWebhookSettings | None = None
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
