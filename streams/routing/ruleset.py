"""Hold the current sources and routes, all of one version."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from streams.consent.policy import Consent
from streams.routing.eligibility import Check, OptOutCheck, Sample, checks_of
from streams.sources.source import Sources
from streams.steps.enrichment.memory import VisitorMemory
from transforms import Rules
from transforms.joint import JointRules
from turnout_tracking.optout import names_of

Apply = Callable[[Any], Sequence[tuple[str, Any]]]
"""Compiled rules: yields (rule, payload) for each rule that takes an event; see transforms.rules."""


@dataclass(frozen=True, slots=True)
class Route:
    """One integration as the router sees it. `sources` None means all; `single` means at most one rule takes an event.

    `names` are those by which events opt out of it (`names_of`), by default its own. `draining` if it takes no new
    events. `rules` are those of `apply`, if they may be compiled together with those of other routes. `checks` precede
    its rules; `checks_without_opt_out` suffice for an event unless it `may_opt_out`.
    """

    integration: str
    topic: str
    apply: Apply
    single: bool = True
    sources: frozenset[str] | None = None
    consent: Consent | None = None
    sample: Sample | None = None
    names: frozenset[str] = frozenset()
    draining: bool = False
    rules: Rules | None = None
    checks: tuple[Check, ...] = field(init=False, repr=False, compare=False)
    checks_without_opt_out: tuple[Check, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Default `names` to the integration's own, and make the checks."""
        names = self.names or names_of(self.integration)
        object.__setattr__(self, "names", names)
        checks = checks_of(self.sources, names, self.consent, self.sample, draining=self.draining)
        object.__setattr__(self, "checks", checks)
        others = tuple(check for check in checks if not isinstance(check, OptOutCheck))
        object.__setattr__(self, "checks_without_opt_out", others)


@dataclass(frozen=True, slots=True)
class RuleSet:
    """All current rules. `version` is a hash of their files; every record made by the rules carries it.

    `memory` is used by the sources' steps; None if no source has the enrichment `memory`. `joint` maps an
    event for all routes at once, as long as each has `rules`.
    """

    version: str
    sources: Sources
    routes: Sequence[Route] = field(default_factory=tuple)
    memory: VisitorMemory | None = None
    joint: JointRules | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Join the rules of the routes."""
        rules = [route.rules for route in self.routes if route.rules is not None]
        joint = JointRules(rules) if rules and len(rules) == len(self.routes) else None
        object.__setattr__(self, "joint", joint)


class CurrentRules:
    """Holds the current rule set, which is replaced as a whole."""

    def __init__(self, rules: RuleSet) -> None:
        self.current = rules
