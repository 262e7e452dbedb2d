"""Find forwarders: every entry point of the group `turnout.forwarders`, including Turnout's own."""

import inspect
import traceback
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import FunctionType
from typing import Any, Final

from forwarders.api import contract
from forwarders.api.contract import Forwarder, HttpForwarder, ObjectForwarder, WriterForwarder

GROUP: Final = "turnout.forwarders"

RENAMED_METHODS: Final[Mapping[type[Forwarder[Any]], Mapping[str, str]]] = {
    Forwarder: {
        "complaint": "validate(payload)",
        "libraries": "required_modules(settings)",
    },
    HttpForwarder: {
        "group": "group_key(payload)",
        "read": "parse_response(response, items)",
        "request": "build_request(items)",
        "token_request": "build_token_request(now)",
    },
    ObjectForwarder: {
        "cut": "rotation_key(offset, time)",
    },
}
"""Old methods of each base class, and the methods that replace them."""


class UnknownForwarderError(LookupError):
    """The forwarder is not installed, or it cannot be used."""


@cache
def _points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def names() -> list[str]:
    """Return the names of all installed forwarders, sorted."""
    return sorted(_points())


@cache
def find(name: str) -> type[Forwarder[Any]]:
    """Return the forwarder with this name.

    Raises:
        UnknownForwarderError: No forwarder has this name, its module cannot be imported, the entry point is not a
            forwarder class, or the class uses old names of the plug-in API.

    """
    point = _points().get(name)
    if point is None:
        near = get_close_matches(name, names(), 1)
        raise UnknownForwarderError(
            f"no forwarder is called {name!r}"
            + (f" (did you mean {near[0]!r}?)" if near else f" (known: {', '.join(names())})")
        )
    try:
        found = point.load()
    except Exception as error:  # a plug-in's module may raise anything
        raise UnknownForwarderError(
            f"the forwarder {name!r} cannot be loaded from {point.value}: {_describe(error)}"
        ) from error
    if not (isinstance(found, type) and issubclass(found, HttpForwarder | WriterForwarder)):
        raise UnknownForwarderError(
            f"the forwarder {name!r}, {point.value}, is neither an HttpForwarder nor a WriterForwarder"
        )
    if renamed := list(_find_renamed(found)):
        raise UnknownForwarderError(f"the forwarder {name!r} uses old names of the plug-in API: {'; '.join(renamed)}")
    return found


def _describe(error: Exception) -> str:
    """Return an import error's message, after the plug-in's file and line that caused it."""
    message = str(error) if isinstance(error, ImportError | AttributeError) else f"{type(error).__name__}: {error}"
    ours = (__file__, contract.__file__, inspect.getfile(EntryPoint))
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename not in ours and "importlib" not in frame.filename:
            return f"{frame.filename}:{frame.lineno}: {message}"
    return message


def _find_renamed(forwarder: type[Forwarder[Any]]) -> Iterator[str]:
    """Yield each old method that a forwarder or a base class of its own defines, with its place and its new name."""
    for cls in forwarder.__mro__:
        if cls.__module__ == contract.__name__:
            continue
        for base, methods in RENAMED_METHODS.items():
            for old, new in methods.items() if issubclass(cls, base) else ():
                if old in vars(cls):
                    yield f"{_place(cls, old)}{cls.__name__}.{old} was renamed to {new}"


def _place(cls: type, method: str) -> str:
    function = inspect.unwrap(getattr(vars(cls)[method], "__func__", vars(cls)[method]))
    if not isinstance(function, FunctionType):
        return ""
    return f"{function.__code__.co_filename}:{function.__code__.co_firstlineno}: "
