"""The first steps of a source: which kinds of events it takes, and the context that all of them get."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from streams.events import Event, EventError, Note
from streams.steps import Held


@dataclass(frozen=True, slots=True)
class Kinds:
    """The step that rejects events of other types than these; the collector asks it, too, to tell the sender."""

    types: frozenset[str]
    name = "kinds"

    def __call__(self, event: Event, _note: Note, /) -> Event | Held:
        """The event; raises EventError."""
        self.check(event)
        return event

    def check(self, event: Event) -> None:
        """Raise EventError for a checked event of another type."""
        if event["type"] not in self.types:
            raise EventError("kind", "type", f"the source takes no {event['type']} events")


@dataclass(frozen=True, slots=True)
class DefaultContext:
    """The step that puts a context under the event's own, at any depth: what the event says stays, a null, too."""

    context: Mapping[str, Any]
    name = "context"

    def __call__(self, event: Event, _note: Note, /) -> Event | Held:
        """The event, its context changed in place."""
        if event.get("context") is None:
            event["context"] = {}
        _put_under(event["context"], self.context)
        return event


def _put_under(own: dict[str, Any], defaults: Mapping[str, Any]) -> None:
    for key, value in defaults.items():
        if key not in own:
            # A later step may change the event in place, and must not change the setting.
            own[key] = deepcopy(value) if isinstance(value, dict | list) else value
        elif isinstance(value, dict) and isinstance(own[key], dict):
            _put_under(own[key], value)
