"""List the enrichments in the order in which a source's events pass through them."""

from collections.abc import Sequence
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from streams.steps.enrichment.bot import BOT
from streams.steps.enrichment.campaign import CAMPAIGN
from streams.steps.enrichment.contract import Enrichment
from streams.steps.enrichment.files import Files
from streams.steps.enrichment.geo import GEO
from streams.steps.enrichment.identity import IDENTITY
from streams.steps.enrichment.ip import IP
from streams.steps.enrichment.lookup import LOOKUP
from streams.steps.enrichment.memory import MEMORY
from streams.steps.enrichment.page import PAGE
from streams.steps.enrichment.pii import PII
from streams.steps.enrichment.referrer import REFERRER
from streams.steps.enrichment.step import EnrichmentStep, OwnEnrichmentStep
from streams.steps.enrichment.timestamp import TIMESTAMP
from streams.steps.enrichment.user_agent import USER_AGENT

GROUP = "turnout.enrichments"

# identity is first, since others may read IDs. geo needs the whole address, and pii must see
# the values that all others add.
BUILT_IN: Sequence[Enrichment[Any]] = (
    IDENTITY,
    TIMESTAMP,
    PAGE,
    CAMPAIGN,
    REFERRER,
    USER_AGENT,
    BOT,
    GEO,
    IP,
    MEMORY,
    LOOKUP,
    PII,
)

_BUILT_IN = {enrichment.name: enrichment for enrichment in BUILT_IN}


class UnknownEnrichmentError(LookupError):
    """No enrichment has this name, or its entry point is not an enrichment."""


@cache
def _points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP) if point.name not in _BUILT_IN}


def names() -> list[str]:
    """Return the names of all enrichments in their order: Turnout's, then those of other packages by name."""
    return [*_BUILT_IN, *sorted(_points())]


@cache
def find(name: str) -> Enrichment[Any]:
    """Return the enrichment with this name; raises UnknownEnrichmentError."""
    if name in _BUILT_IN:
        return _BUILT_IN[name]
    point = _points().get(name)
    if point is None:
        raise UnknownEnrichmentError(f"unknown enrichment {name!r}")
    try:
        found = point.load()
    except (ImportError, AttributeError) as error:
        raise UnknownEnrichmentError(f"the enrichment {name!r} cannot be loaded from {point.value}: {error}") from error
    if not isinstance(found, Enrichment):
        raise UnknownEnrichmentError(f"the enrichment {name!r}: {point.value} is not an Enrichment")
    return found


def make_step(enrichment: Enrichment[Any], settings: Any, files: Files) -> EnrichmentStep:
    """Make a source's step from an enrichment and its settings; raises SettingError."""
    step = EnrichmentStep if enrichment.name in _BUILT_IN else OwnEnrichmentStep
    return step(enrichment.name, enrichment.make(settings, files), replaces=enrichment.replaces)
