"""Add a source's default context to its events."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from streams.events import Event, Note
from streams.steps.step import Blocked


@dataclass(frozen=True, slots=True)
class DefaultContext:
    """The step that fills in missing keys of an event's context, at any depth. Values of the event stay, even null."""

    context: Mapping[str, Any]
    name = "context"

    def __call__(self, event: Event, _note: Note, /) -> Event | Blocked:
        """Fill in the event's context in place."""
        if event.get("context") is None:
            event["context"] = {}
        _fill_in(event["context"], self.context)
        return event


def _fill_in(own: dict[str, Any], defaults: Mapping[str, Any]) -> None:
    for key, value in defaults.items():
        if key not in own:
            # Later steps may change the event in place, but not the setting.
            own[key] = deepcopy(value) if isinstance(value, dict | list) else value
        elif isinstance(value, dict) and isinstance(own[key], dict):
            _fill_in(own[key], value)
