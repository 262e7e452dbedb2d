"""Find the source to explain an event with if the user gives no source."""

from typing import Any, NamedTuple

from deploy.config.configuration import Configuration
from streams import events
from streams.events import EventError


class LikelySource(NamedTuple):
    """The name of the likely source and the reason; the name is None if no source is more likely than the others."""

    name: str | None
    reason: str

    def data(self) -> dict[str, Any]:
        """Return JSON data."""
        return self._asdict()


def find_likely_source(configuration: Configuration, text: bytes, integration: str | None = None) -> LikelySource:
    """Find the source of an event by its write key, else the default or only source, else the integration's only one.

    A write key may be unknown here only because its variable is not set, so it does not rule a source out.
    """
    sources, names = configuration.sources, sorted(configuration.source_files)
    try:
        event = events.read(text)
    except EventError:
        event = None
    key = event.get("writeKey") if isinstance(event, dict) else None
    if isinstance(key, str):
        if found := sources.find(key):
            return LikelySource(found.name, "it has the event's write key")
        if key in names:
            return LikelySource(key, "its name is the event's write key")
    elif sources.default is not None:
        return LikelySource(sources.default, "it is the default source")
    if len(names) == 1:
        return LikelySource(names[0], "it is the only source")
    taken = configuration.integrations[integration].sources if integration else None
    if taken is not None and len(taken) == 1:
        return LikelySource(next(iter(taken)), f"it is the only source of {integration}")
    return LikelySource(None, f"it may come from {', '.join(names)}" if names else "the configuration has no sources")
