"""Run a source's steps on its events."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from streams.events import Event, EventError, Note
from streams.records.outcomes import Outcome


class Blocked(NamedTuple):
    """The result of a step or check that blocks an event: its outcome, and a reason.

    `reason` is a short code, `detail` has no personal data.
    """

    outcome: Outcome
    reason: str = ""
    detail: str = ""


class Step(Protocol):
    """One operation on, or check of, each event of a source.

    It gets a valid event and returns it (changed in place, or a new one), or Blocked. The only error it may raise is
    EventError, which rejects the event.
    """

    @property
    def name(self) -> str:
        """The name in `turnout explain`."""

    def __call__(self, event: Event, note: Note, /) -> Event | Blocked:
        """Apply the step to an event."""


class StepTrace(Protocol):
    """Follows what each step does."""

    def before_step(self, step: Step, event: Event) -> None:
        """Report that a step comes next; it may change the event in place."""

    def after_step(self, step: Step, taken: Event | Blocked | EventError) -> None:
        """Report a step's result: the event, why it was blocked, or why it was rejected."""


def run_steps(steps: Sequence[Step], event: Event, note: Note, trace: StepTrace | None = None) -> Event | Blocked:
    """Run the steps in order until one blocks the event; raises EventError."""
    for step in steps:
        if trace is not None:
            trace.before_step(step, event)
        try:
            taken = step(event, note)
        except EventError as error:
            if trace is not None:
                trace.after_step(step, error)
            raise
        if trace is not None:
            trace.after_step(step, taken)
        if isinstance(taken, Blocked):
            return taken
        event = taken
    return event
