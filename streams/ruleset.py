"""What the router reads once a run: the sources and routes in force, all of one version."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from streams.consent import Consent
from streams.sources import Sources
from turnout_tracking.optout import names_of

Apply = Callable[[Any], Sequence[tuple[str, Any]]]
"""Compiled rules: an event to (rule, payload) for each rule that took it; see transforms.rules."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The part of events that is forwarded, 0 to 1, decided by a hash of the event's field `by`."""

    rate: float
    by: str = "userId"


@dataclass(frozen=True, slots=True)
class Route:
    """One integration as the router sees it; `sources` None is all, `single` that at most one rule takes an event.

    `names` are those by which events opt out of it (`names_of`), by default its own.
    """

    integration: str
    topic: str
    apply: Apply
    single: bool = True
    sources: frozenset[str] | None = None
    consent: Consent | None = None
    sample: Sample | None = None
    names: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Have it answer to its own name."""
        if not self.names:
            object.__setattr__(self, "names", names_of(self.integration))


@dataclass(frozen=True, slots=True)
class RuleSet:
    """All rules in force; `version` is a hash of the files they came from, and stands in every record made by them."""

    version: str
    sources: Sources
    routes: Sequence[Route] = field(default_factory=tuple)


class Holder:
    """The one place where the rule set in force stands; replaced as a whole."""

    def __init__(self, rules: RuleSet) -> None:
        self.current = rules
