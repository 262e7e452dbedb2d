"""Define enrichments: their settings, and a function from an event to a patch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from streams.events import Event
from streams.settings import StrictModel
from streams.steps.enrichment.files import Files
from streams.steps.enrichment.patches import Patch
from streams.steps.step import Blocked

Enrich = Callable[[Event], Patch | Blocked | None]
"""A function that takes a valid event without changing it, and returns a patch, Blocked, or None for no change."""


class Settings(StrictModel):
    """Base class of an enrichment's settings."""


S = TypeVar("S", bound=Settings)


@dataclass(frozen=True, slots=True)
class Enrichment(Generic[S]):
    """One enrichment. `make` returns its function for given settings; it raises SettingError.

    By default a patch only fills in keys that are missing or null. With `replaces` it is a JSON merge patch (RFC 7396):
    it overwrites the sender's values, and null removes a key.
    """

    name: str
    settings: type[S]
    make: Callable[[S, Files], Enrich]
    replaces: bool = False


NOTHING: dict[str, Any] = {}
"""An empty object, for reading only."""


def object_at(parent: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return the object at a key, or NOTHING without one."""
    value = parent.get(key)
    return value if type(value) is dict else NOTHING
