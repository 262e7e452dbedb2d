"""What an enrichment is: settings, and a function from an event to what is to be added to it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from streams.events import Event
from streams.settings import StrictModel
from streams.steps.enrichment.files import Files
from streams.steps.enrichment.patches import Patch
from streams.steps.step import Blocked

Enrich = Callable[[Event], Patch | Blocked | None]
"""A checked event, which it leaves as it is, to a patch, or to why it goes no further; None for nothing to add."""


class Settings(StrictModel):
    """Base class of an enrichment's settings."""


S = TypeVar("S", bound=Settings)


@dataclass(frozen=True, slots=True)
class Enrichment(Generic[S]):
    """One enrichment. `make` gives its function for these settings; it raises SettingError.

    A patch is filled in where the event has nothing or null. With `replaces` it is a JSON merge patch (RFC 7396): it
    wins over what the sender gave, and null takes a key out.
    """

    name: str
    settings: type[S]
    make: Callable[[S, Files], Enrich]
    replaces: bool = False


NOTHING: dict[str, Any] = {}
"""An object without keys, for reading only."""


def object_at(parent: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The object at a key; NOTHING where there is none."""
    value = parent.get(key)
    return value if type(value) is dict else NOTHING
