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
    """The consent of a source's users."""

    assume: Assumption
    """The consent of events without consent information. Overrides what an integration assumes."""


class SourceFile(StrictModel):
    """`sources/NAME.yaml`: an origin of events, such as a website or a backend."""

    source: str = Field(pattern=NAME)
    """The source's name: the same as the file's."""
    write_keys: tuple[SecretStr, ...] = ()
    """Keys that clients send with their events. They come from the environment: '${NAME}'."""
    disabled_keys: tuple[SecretStr, ...] = ()
    """Retired keys: requests with them get a 401 that says so, and are counted."""
    state: Literal["active", "disabled"] = "active"
    """`disabled`: the collector responds 404 to requests with any of the keys."""
    origins: tuple[Annotated[str, Field(pattern=ORIGIN)], ...] = ANY_ORIGIN
    """Origins of pages that may send with these keys: `https://shop.example.com` or `https://*.example.com`. Default:
    any.
    """
    kinds: tuple[Kind, ...] | None = Field(None, min_length=1)
    """The types of events that are accepted. Default: all."""
    context: dict[str, Any] = Field(default_factory=dict)
    """Default values for the events' `context`."""
    consent: SourceConsent | None = None
    """The consent of the source's users."""
    limits: SourceLimits = Field(default_factory=SourceLimits)
    """Limits for requests and events."""
    topics: tuple[Annotated[str, Field(pattern=TOPIC)], ...] = ()
    """External Kafka topics to read events from, one event per record. They must exist. Producers that write to
    `PREFIX.events` need no entry.
    """
    webhook: SourceWebhookSettings | None = None
    """Accept requests in other formats. The rules make whole events from `$.headers` and `$.body`, instead of repairing
    events.
    """
    plan: str | None = None
    """The tracking plan that validates the events: `plans/NAME.yaml`."""
    enrich: dict[str, Any] = Field(default_factory=dict)
    """Enrichments by name, with their settings; see enrichment.md. They run after the rules."""
    match: Any = None
    """`first`: only the first matching rule repairs the event; `all`: every matching rule does, in order."""
    map: Any = None
    """Fields that every rule sets."""
    rules: Any = None
    """Rules that repair or drop this source's events before they are forwarded. A map is merged into the event, and
    null removes a key.
    """
    otherwise: Any = None
    """`drop`, or a map for events that match no rule. By default, these events stay unchanged."""
    tests: tuple[SourceCase, ...] = ()
    """Test events with expected results, for `turnout test`."""
