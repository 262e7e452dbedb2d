"""What decides of an event before any rule does: its source, the sender's opt-out, consent, and the sample."""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from streams.events import Event, EventError
from streams.ruleset import Consent, Route, Sample
from streams.sources import Sources
from streams.topics import Outcome


def find_source(sources: Sources, named: str | None, event: Event) -> str:
    """The name of an event's source: the one its record names, else by its write key; raises EventError."""
    if named is not None:
        source = sources.by_name(named)
    else:
        key = event.get("writeKey")
        source = sources.find(key) if isinstance(key, str) else None
        if key is None and sources.default is not None:
            return sources.default
    if source is None:
        raise EventError("unknown_source", "", "no source has this name or write key")
    return source.name


def held_back(route: Route, event: Event) -> Outcome | None:
    """Why an integration is not to have an event whatever its rules say."""
    integrations = event.get("integrations")
    if integrations and integrations.get(route.integration, integrations.get("All", True)) is False:
        return Outcome.OPTED_OUT
    if route.consent is not None and not _consents(route.consent, event):
        return Outcome.CONSENT
    if route.sample is not None and not _sampled(route.sample, event):
        return Outcome.SAMPLED
    return None


def _consents(consent: Consent, event: Event) -> bool:
    given: Any = event
    for step in ("context", "consent", "categoryPreferences"):
        given = given.get(step) if isinstance(given, Mapping) else None
    if not isinstance(given, Mapping):
        return consent.assume == "granted"
    quantifier = all if consent.match == "all" else any
    return quantifier(given.get(category) is True for category in consent.categories)


def _sampled(sample: Sample, event: Event) -> bool:
    value = event.get(sample.by) or event.get("anonymousId") or event["userId"]
    digest = blake2b(str(value).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < sample.rate * 2**64
