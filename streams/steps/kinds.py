"""Accept only some types of events from a source."""

from dataclasses import dataclass

from streams.events import Event, EventError, Note
from streams.steps.step import Blocked


@dataclass(frozen=True, slots=True)
class Kinds:
    """The step that rejects events of other types than these; the collector asks it, too, to tell the sender."""

    types: frozenset[str]
    name = "kinds"

    def __call__(self, event: Event, _note: Note, /) -> Event | Blocked:
        """The event; raises EventError."""
        self.check(event)
        return event

    def check(self, event: Event) -> None:
        """Raise EventError for a checked event of another type."""
        if event["type"] not in self.types:
            raise EventError("kind", "type", f"the source takes no {event['type']} events")
