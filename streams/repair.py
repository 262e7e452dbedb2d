"""A source's rules: what is mended in its events before the integrations get them."""

from collections.abc import Callable
from typing import Any

from streams import events
from streams.events import Event, EventError
from transforms import DROP, Failure, Rules

Repair = Callable[[Event], Event | None]
"""A checked event to a mended copy, the event itself, or None where it is dropped; raises EventError."""


def make_repair(rules: Rules, *, keeps_others: bool) -> Repair:
    """The repair that rules are: what a rule maps to is a JSON merge patch of the event (RFC 7396).

    Objects are merged at any depth, null takes a key out, and where all rules may match, the patches follow each other.
    `keeps_others`: an event that no rule takes stays as it is, else it is dropped.
    """

    def repair(event: Event) -> Event | None:
        mended = event
        for rule, patch in rules.apply(event):
            if patch is DROP:
                return event if not rule and keeps_others else None
            if isinstance(patch, Failure):
                where = f"{patch.path}:{patch.line}:{patch.column}"
                raise EventError("repair", "", f"the rule {rule} of the source: {where}: {patch.error}")
            mended = merge(mended, patch)
        try:
            return events.check(mended)
        except EventError as error:
            raise EventError("repair", error.field, f"after the source's rules: {error}") from None

    return repair


def merge(event: Event, patch: Event) -> Event:
    """A copy of the event with the patch merged in."""
    mended = dict(event)
    stack: list[tuple[dict[str, Any], dict[str, Any]]] = [(mended, patch)]
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
    return mended
