"""Compare a draft with the current rules on the newest real events, like `turnout diff`."""

from collections.abc import Callable, Sequence
from threading import Lock
from time import monotonic
from typing import Any

from deploy.config.configuration import Configuration
from deploy.config.json_diff import ABSENT, dotted
from deploy.dryrun.diff import ChangeGroup, RulesComparison
from deploy.dryrun.recorded_events import RecordedEvent, read_newest
from streams.records.outcomes import FORWARDED

MAX_EVENTS = 10_000
"""The newest events that are compared."""

QUICK_EVENTS = 1_000
"""The newest events that are compared after each change of a draft; a comparison of all takes some seconds."""

MAX_SECONDS = 30.0
"""Seconds after which a comparison ends with the events until then."""

KEEP_SECONDS = 60.0
"""Seconds that events are kept for the next comparison, which often follows at once."""

MAX_CHANGES = 30


class CancelledError(Exception):
    """A newer comparison has replaced this one."""


class RecentEvents:
    """Caches the newest events of the configuration's Kafka for a short time."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._events: Sequence[RecordedEvent] = ()
        self._until = 0.0

    def read(self, configuration: Configuration) -> Sequence[RecordedEvent]:
        """Return the newest events, newest first. Blocking; raises BrokerError."""
        with self._lock:
            if monotonic() >= self._until:
                self._events = read_newest(configuration, MAX_EVENTS)
                self._until = monotonic() + KEEP_SECONDS
            return self._events


def compare_events(
    old: Configuration,
    new: Configuration,
    events: Sequence[RecordedEvent],
    integrations: Sequence[str],
    is_cancelled: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Compare two versions of the rules on events; blocking, raises CancelledError.

    Returns JSON data: the number of compared events, the number of unchanged deliveries, and the changes, worst first.
    """
    comparison, deadline = RulesComparison(old, new, integrations), monotonic() + MAX_SECONDS
    for event in events:
        if is_cancelled():
            raise CancelledError
        if monotonic() > deadline:
            break
        comparison.add(event.place, event.value, event.source)
    changes = comparison.changes
    return {
        "events": changes.events,
        "of": len(events),
        "same": changes.same.total(),
        "changed": changes.changed.total(),
        "changes": [_described(change) for change in changes.groups[:MAX_CHANGES]],
        "more": max(0, len(changes.groups) - MAX_CHANGES),
    }


def _described(change: ChangeGroup) -> dict[str, Any]:
    """Return a change as JSON data, with a word for its kind."""
    return {**change.data(), "kind": _kind(change), "paths": [dotted(each.place) for each in change.differences]}


def _kind(change: ChangeGroup) -> str:
    """Return the kind of a change: lost, sent, moved to another rule, added or removed fields, changed, or other."""
    before, after = change.before.outcome == FORWARDED, change.after.outcome == FORWARDED
    if not before or not after:
        return "lost" if before else "sent" if after else "other"
    if not change.differences:
        return "moved"
    if all(each.before is ABSENT for each in change.differences):
        return "added"
    return "removed" if all(each.after is ABSENT for each in change.differences) else "changed"
