"""Run a source's steps on its events."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from streams.events import Event, EventError, Note
from streams.records.outcomes import Outcome


class Blocked(NamedTuple):
    """The result of a step or check that blocks an event: its outcome, and a reason.

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

    def __call__(self, event: Event, note: Note, /) -> Event | Blocked:
        """Take the step."""


class StepTrace(Protocol):
    """Is told what each step did."""

    def before_step(self, step: Step, event: Event) -> None:
        """Report that a step is about to be taken; it may change the event in place."""

    def after_step(self, step: Step, taken: Event | Blocked | EventError) -> None:
        """Report what came of it: the event, why it goes no further, or why it is rejected."""


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
