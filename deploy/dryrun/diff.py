"""Compare the results of two versions of the rules for the same events."""

import gzip
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

from deploy.config.configuration import Configuration
from deploy.config.json_diff import ABSENT, Difference, compare, dotted
from deploy.dryrun.masked import make_masked_forwarder
from deploy.dryrun.preview import FIXED_NOW, RuleOutcome, decide_now, decode_event, preview_delivery
from streams.events import EventError
from streams.records.outcomes import FORWARDED
from streams.routing.decision import Decision

Place = int | str

MAX_GROUPS = 1000
"""Kinds of change that are kept apart; further ones are put together by integration, outcomes and rules."""


class Side(NamedTuple):
    """One version's result for an event and integration; `outcome` is empty without such an integration or rule."""

    outcome: str
    rule: str
    reason: str


NOTHING = Side("", "", "")


@dataclass(slots=True)
class ChangeGroup:
    """Events that change in the same outcome, rule and fields; `differences` are those of the first event.

    Fields that are added, left out, or have another value are kept apart. `place` is the first event's line in a file,
    or its TOPIC:PARTITION:OFFSET in Kafka.
    """

    integration: str
    before: Side
    after: Side
    differences: Sequence[Difference]
    place: Place
    count: int = 0

    @property
    def severity(self) -> tuple[int, int]:
        """The sort key, worst first: lost deliveries, then other changes of the outcome, then by number of events."""
        lost = self.before.outcome == FORWARDED != self.after.outcome
        other = self.before.outcome != self.after.outcome
        return (0 if lost else 1 if other else 2, -self.count)

    def data(self) -> dict[str, Any]:
        """Return the change as JSON data; absent values are left out."""
        return {
            "integration": self.integration,
            "count": self.count,
            "before": self.before._asdict(),
            "after": self.after._asdict(),
            "line" if isinstance(self.place, int) else "at": self.place,
            "fields": [each.data() for each in self.differences],
        }


@dataclass(slots=True)
class Changes:
    """The counts by integration and rule (of the new version if it has one), and the changes, worst first."""

    events: int = 0
    rejected: int = 0
    same: Counter[tuple[str, str]] = field(default_factory=Counter)
    changed: Counter[tuple[str, str]] = field(default_factory=Counter)
    _groups: dict[Any, ChangeGroup] = field(default_factory=dict)

    @property
    def groups(self) -> list[ChangeGroup]:
        """The changes, worst first."""
        return sorted(self._groups.values(), key=lambda change: change.severity)

    def rules(self) -> list[tuple[str, str]]:
        """Return each integration and rule with events."""
        return sorted({*self.same, *self.changed})

    def record(self, integration: str, before: RuleOutcome | None, after: RuleOutcome | None, place: Place) -> None:
        """Count an event's outcome for one rule in both versions."""
        sides = [Side(str(it.outcome), it.rule, it.reason) if it else NOTHING for it in (before, after)]
        differences: list[Difference] = []
        if before and after and before.outcome == after.outcome == FORWARDED:
            differences = list(compare(before.payload, after.payload))
        rule = (integration, (after or before or _NONE).rule)
        if sides[0] == sides[1] and not differences:
            self.same[rule] += 1
            return
        self.changed[rule] += 1
        fields = frozenset(map(_kind_of, differences))
        if len(self._groups) >= MAX_GROUPS and (integration, *sides, fields) not in self._groups:
            # Reasons may quote values, so that each event would be a kind of its own.
            sides, fields, differences = [side._replace(reason="") for side in sides], frozenset(), []
        group = self._groups.setdefault(
            (integration, *sides, fields), ChangeGroup(integration, sides[0], sides[1], differences, place)
        )
        group.count += 1


def _kind_of(difference: Difference) -> tuple[str, bool, bool]:
    """Return the field without indexes, and whether the old and the new payload have it."""
    place = dotted(tuple(0 if isinstance(key, int) else key for key in difference.place))
    return place, difference.before is ABSENT, difference.after is ABSENT


_NONE = RuleOutcome("", "")


class _Version:
    """One version's integrations."""

    def __init__(self, configuration: Configuration, only: Collection[str] | None) -> None:
        left_out = () if only is None else configuration.integrations.keys() - set(only)
        self._rules = configuration.rule_set(left_out)
        self._forwarders = {
            route.integration: make_masked_forwarder(configuration.integrations[route.integration])
            for route in self._rules.routes
        }

    @property
    def names(self) -> set[str]:
        return set(self._forwarders)

    def decide(self, value: bytes, source: str | None) -> Decision | EventError:
        """Decide about an event for this version's integrations; an EventError if it is rejected."""
        try:
            incoming = decode_event(value, self._rules.sources, source)
        except EventError as error:
            return error
        decision = decide_now(incoming, self._rules, FIXED_NOW)
        if decision.rejected and decision.is_rejected:
            return EventError(decision.rejected.reason, "", decision.rejected.detail)
        return decision

    def outcomes(self, name: str, decision: Decision | EventError) -> dict[str, RuleOutcome]:
        """Return the outcomes by rule; the key is "" if only one rule can match an event."""
        if name not in self._forwarders:
            return {}
        if isinstance(decision, EventError):
            return {"": RuleOutcome("", "rejected", str(decision))}
        return {
            "" if decided.route.single else decided.rule: preview_delivery(decided, self._forwarders[name])
            for decided in decision.outcomes
            if decided.route.integration == name
        }


class RulesComparison:
    """Compares two versions of the rules, event by event; `changes` is the result so far.

    Args:
        old: The rules before.
        new: The rules after.
        only: The integrations to compare; by default all.

    """

    def __init__(self, old: Configuration, new: Configuration, only: Collection[str] | None = None) -> None:
        self._before, self._after = _Version(old, only), _Version(new, only)
        self._names = sorted(self._before.names | self._after.names)
        self.changes = Changes()

    def add(self, place: Place, value: bytes, source: str | None) -> None:
        """Compare the results of an event, whose source is by default that of its write key."""
        self.changes.events += 1
        before, after = self._before.decide(value, source), self._after.decide(value, source)
        if isinstance(before, EventError) and isinstance(after, EventError):
            self.changes.rejected += 1
            return
        for name in self._names:
            old, new = self._before.outcomes(name, before), self._after.outcomes(name, after)
            for rule in {**old, **new}:
                self.changes.record(name, old.get(rule), new.get(rule), place)


def find_changes(
    old: Configuration, new: Configuration, lines: Iterator[tuple[int, bytes]], source: str | None = None
) -> Changes:
    """Compare both versions on events, given as numbered lines of JSON."""
    comparison = RulesComparison(old, new)
    for number, line in lines:
        if line.strip():
            comparison.add(number, line, source)
    return comparison.changes


@contextmanager
def open_lines(path: Path) -> Iterator[tuple[Iterator[tuple[int, bytes]], IO[bytes]]]:
    """Open a file, gzipped or not; yields its numbered lines, and the file, whose position shows the progress."""
    with path.open("rb") as file:
        magic = file.read(2)
        file.seek(0)
        opened = gzip.GzipFile(fileobj=file) if magic == b"\x1f\x8b" else file
        yield enumerate(opened, 1), file
