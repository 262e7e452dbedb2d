"""Decide which integrations an event opts out of by its `integrations`, in every form that clients write."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

MAX_NAME_CHARACTERS = 64
"""Maximum characters of a name; longer names match no integration."""

_ALL = "all"
_YES = frozenset({"true", "1", "yes", "y", "on", "enabled"})


def names_of(integration: str, vendor: Iterable[str] = ()) -> frozenset[str]:
    """Return the names by which events address an integration: its own, and the vendor's usual ones.

    Segment appends "(Actions)" to the names of some destinations, and prepends "Actions" in code.
    """
    return frozenset({canonical(integration), *_with_actions(map(canonical, vendor))})


def _with_actions(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        yield from (name, f"{name}actions", f"actions{name}")


@lru_cache(4096)
def _canonical(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())


def canonical(name: str) -> str:
    """Normalize a name for comparison: lower-case letters and digits only."""
    return _canonical(name) if len(name) <= MAX_NAME_CHARACTERS else ""


def opts_out(names: Collection[str], integrations: Mapping[str, Any]) -> bool:
    """Return whether `integrations` turns off an integration with these canonical names.

    A no under one name wins over a yes under another name. Both win over `All`.
    """
    for value in integrations.values():
        if value is not True:
            break
    else:
        return False
    named = everything = False
    for name, value in integrations.items():
        found = canonical(name)
        if found in names:
            if is_opt_out(value):
                return True
            named = True
        elif found == _ALL and is_opt_out(value):
            everything = True
    return everything and not named


def is_opt_out(value: object) -> bool:
    """Return whether a value opts out: false, 0, null, and any text that is not a clear yes.

    An object holds the options of an enabled integration, unless its `enabled` opts out.
    """
    if value is True:
        return False
    if type(value) is str:
        return value.strip().casefold() not in _YES
    if isinstance(value, Mapping):
        return "enabled" in value and is_opt_out(value["enabled"])
    return value is None or value == 0
