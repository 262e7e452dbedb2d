"""The steps that a source takes its events through before the integrations get them."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from streams.events import Event, Note
from streams.topics import Outcome


class Held(NamedTuple):
    """An event that goes no further: its outcome for every integration, with a reason where that is worth keeping.

    `reason` is a short code, `detail` holds no personal data.
    """

    outcome: Outcome
    reason: str = ""
    detail: str = ""


class Step(Protocol):
    """One thing that is done with each event of a source, or asked of it.

    It gets a checked event and returns it, changed in place or another, or why it goes no further. It raises EventError
    to have the event rejected, and nothing else.
    """

    @property
    def name(self) -> str:
        """What `turnout explain` calls it."""

    def __call__(self, event: Event, note: Note, /) -> Event | Held:
        """Take the step."""


def take(steps: Sequence[Step], event: Event, note: Note) -> Event | Held:
    """Take an event through steps in their order, up to the one that holds it; raises EventError."""
    for step in steps:
        taken = step(event, note)
        if isinstance(taken, Held):
            return taken
        event = taken
    return event
