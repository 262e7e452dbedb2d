"""Which forwarders there are: every entry point of the group `turnout.forwarders`, Turnout's own among them."""

from difflib import get_close_matches
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from forwarders.contract import Forwarder, HttpForwarder, WriterForwarder

GROUP = "turnout.forwarders"


class UnknownForwarderError(LookupError):
    """No forwarder has this name, or what the entry point names is none."""


@cache
def _points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def names() -> list[str]:
    """The names of all installed forwarders, sorted."""
    return sorted(_points())


@cache
def find(name: str) -> type[Forwarder[Any]]:
    """The forwarder of this name; raises UnknownForwarderError with the nearest name."""
    point = _points().get(name)
    if point is None:
        near = get_close_matches(name, names(), 1)
        raise UnknownForwarderError(
            f"no forwarder is called {name!r}"
            + (f" (did you mean {near[0]!r}?)" if near else f" (there are: {', '.join(names())})")
        )
    try:
        found = point.load()
    except (ImportError, AttributeError) as error:
        raise UnknownForwarderError(f"the forwarder {name!r} cannot be loaded from {point.value}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, HttpForwarder | WriterForwarder)):
        raise UnknownForwarderError(
            f"the forwarder {name!r}, {point.value}, is neither an HttpForwarder nor a WriterForwarder"
        )
    return found
