"""Fix a source's events by its rules before the integrations receive them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from streams import events
from streams.events import Event, EventError, Note
from streams.records.outcomes import Outcome
from streams.steps.step import Blocked
from transforms import DROP, Failure, Rules

DROPPED = Blocked(Outcome.FILTERED)


@dataclass(frozen=True, slots=True)
class SourceRulesStep:
    """Apply a source's rules as a step. The result of a rule is a JSON merge patch of the event (RFC 7396).

    Objects are merged at any depth, and null removes a key. If several rules may match, their patches are applied in
    order. With `keep_unmatched`, an event that no rule takes stays unchanged; otherwise it is dropped.
    """

    rules: Rules
    keep_unmatched: bool
    name = "repair"

    def __call__(self, event: Event, note: Note, /) -> Event | Blocked:
        """Return a patched copy of the event, or the event itself; raises EventError."""
        patched = event
        for rule, patch in self.rules.apply(event):
            if patch is DROP:
                return event if not rule and self.keep_unmatched else DROPPED
            if isinstance(patch, Failure):
                where = f"{patch.path}:{patch.line}:{patch.column}"
                raise EventError("repair", "", f"the rule {rule} of the source: {where}: {patch.error}")
            patched = merge(patched, patch)
        try:
            return events.normalize(patched, note)
        except EventError as error:
            raise EventError("repair", error.field, f"after the source's rules: {error}") from None


def merge(event: Event, patch: Event) -> Event:
    """Return a copy of the event with the patch merged in."""
    patched = dict(event)
    merge_into(patched, patch)
    return patched


def merge_into(event: Event, patch: Mapping[str, Any]) -> None:
    """Merge a patch into an event in place (RFC 7396). Nested objects are copied first, since they may be shared."""
    stack: list[tuple[dict[str, Any], Mapping[str, Any]]] = [(event, patch)]
    while stack:
        target, changes = stack.pop()
        for key, value in changes.items():
            if value is None:
                target.pop(key, None)
            elif type(value) is dict:
                before = target.get(key)
                target[key] = inner = dict(before) if type(before) is dict else {}
                stack.append((inner, value))
            else:
                target[key] = value
