"""Accept only some types of events from a source."""

from dataclasses import dataclass

from streams.events import Event, EventError, Note
from streams.steps.step import Blocked


@dataclass(frozen=True, slots=True)
class Kinds:
    """The step that rejects events of other types. The collector also calls `check` to respond to the sender."""

    types: frozenset[str]
    name = "kinds"

    def __call__(self, event: Event, _note: Note, /) -> Event | Blocked:
        """Return the event; raises EventError."""
        self.check(event)
        return event

    def check(self, event: Event) -> None:
        """Raise EventError for a valid event of another type."""
        if event["type"] not in self.types:
            raise EventError("kind", "type", f"the source does not accept {event['type']} events")
