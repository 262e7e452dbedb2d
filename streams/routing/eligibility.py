"""Check an event before the rules run: its source, the sender's opt-out, consent, and the sample."""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol

from streams.consent.policy import Consent
from streams.events import Event, EventError
from streams.records.outcomes import Outcome
from streams.sources.source import Source, Sources
from streams.steps.step import Blocked
from turnout_tracking.optout import opts_out


@dataclass(frozen=True, slots=True)
class Sample:
    """The share of events that is forwarded, 0 to 1, decided by a hash of the event's field `by`."""

    rate: float
    by: str = "userId"


def find_source(sources: Sources, named: str | None, event: Event) -> Source:
    """Return an event's source: by the name in its record, its write key, or the default; raises EventError."""
    key = event.get("writeKey")
    source = None
    if named is not None:
        source = sources.by_name(named)
    elif isinstance(key, str):
        source = sources.find(key)
    elif key is None and sources.default is not None:
        source = sources.by_name(sources.default)
    if source is None:
        raise EventError("unknown_source", "", "no source has this name or write key")
    return source


OTHER_SOURCE = Blocked(Outcome.FILTERED)
"""Blocks an event whose source is not one of the integration's."""


DRAINING = Blocked(Outcome.DRAINING)
"""Blocks every event of an integration that is draining."""


class Check(Protocol):
    """A condition that an event must meet before an integration's rules run."""

    @property
    def name(self) -> str:
        """The name in `turnout explain`."""

    def __call__(self, event: Event, source: Source | None, /) -> Blocked | None:
        """Return why the integration does not get the event, or None if it does; `source` is None if unknown."""

    def describe(self, event: Event, source: Source | None) -> str:
        """Describe the condition and the event's value; empty if the check is irrelevant to the event."""


@dataclass(frozen=True, slots=True)
class SourceCheck:
    """The event must come from one of these sources."""

    names: frozenset[str]
    name = "source"

    def __call__(self, _: Event, source: Source | None, /) -> Blocked | None:
        """Implement Check."""
        return None if source is None or source.name in self.names else OTHER_SOURCE

    def describe(self, _: Event, source: Source | None) -> str:
        """Implement Check."""
        return f"of {', '.join(sorted(self.names))}" if source else ""


def may_opt_out(event: Event) -> bool:
    """Return whether any OptOutCheck can block the event; most events enable all integrations."""
    integrations = event.get("integrations")
    if integrations:
        for value in integrations.values():  # faster than any()
            if value is not True:
                return True
    return False


@dataclass(frozen=True, slots=True)
class OptOutCheck:
    """The event's `integrations` must not opt out of any of these names."""

    names: frozenset[str]
    name = "opt-out"

    def __call__(self, event: Event, _: Source | None, /) -> Blocked | None:
        """Implement Check."""
        integrations = event.get("integrations")
        return _OPTED_OUT if integrations and opts_out(self.names, integrations) else None

    def describe(self, event: Event, source: Source | None) -> str:
        """Implement Check."""
        if not event.get("integrations"):
            return ""
        return f"the event's integrations say {'no' if self(event, source) else 'yes'}"


@dataclass(frozen=True, slots=True)
class ConsentCheck:
    """The event must have the consent that the integration requires. Its source's default takes precedence."""

    consent: Consent
    name = "consent"

    def __call__(self, event: Event, source: Source | None, /) -> Blocked | None:
        """Implement Check."""
        lacking = self.consent.lacking(event, source.assume if source else None)
        return Blocked(Outcome.CONSENT, detail=lacking) if lacking else None

    def describe(self, event: Event, source: Source | None) -> str:
        """Implement Check."""
        held = self(event, source)
        required = f"{self.consent.match} of {', '.join(category.name for category in self.consent.categories)}"
        assume = (source and source.assume) or self.consent.assume
        return f"{required}: {f'{held.detail} not granted' if held else 'granted'}; without information {assume}"


@dataclass(frozen=True, slots=True)
class SampleCheck:
    """The event must be in the sample."""

    sample: Sample
    name = "sample"

    def __call__(self, event: Event, _: Source | None, /) -> Blocked | None:
        """Implement Check."""
        return None if in_sample(self.sample, event) else _SAMPLED

    def describe(self, _event: Event, _source: Source | None) -> str:
        """Implement Check."""
        return f"{self.sample.rate:.0%} by {self.sample.by}"


@dataclass(frozen=True, slots=True)
class DrainingCheck:
    """The integration must not be draining."""

    name = "state"

    def __call__(self, _: Event, _source: Source | None, /) -> Blocked | None:
        """Implement Check."""
        return DRAINING

    def describe(self, _event: Event, _source: Source | None) -> str:
        """Implement Check."""
        return "draining: no new events are forwarded"


def checks_of(
    sources: frozenset[str] | None,
    names: frozenset[str],
    consent: Consent | None,
    sample: Sample | None,
    *,
    draining: bool = False,
) -> tuple[Check, ...]:
    """Return the checks of an integration. The first that fails decides the outcome, so stronger reasons come first."""
    if draining:
        return (DrainingCheck(),)
    checks: list[Check] = [SourceCheck(sources)] if sources is not None else []
    checks.append(OptOutCheck(names))
    if consent is not None:
        checks.append(ConsentCheck(consent))
    if sample is not None:
        checks.append(SampleCheck(sample))
    return tuple(checks)


_OPTED_OUT, _SAMPLED = Blocked(Outcome.OPTED_OUT), Blocked(Outcome.SAMPLED)


def in_sample(sample: Sample, event: Event) -> bool:
    """Return whether the event is in the sample; the same for all events that share the field."""
    value = event.get(sample.by) or event.get("anonymousId") or event["userId"]
    digest = blake2b(str(value).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < sample.rate * 2**64
