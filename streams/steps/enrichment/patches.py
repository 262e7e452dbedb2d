"""Patches: what an enrichment found, and how it goes into an event."""

from collections.abc import Mapping
from typing import Any

Patch = Mapping[str, Any]
"""What is to change in an event, in the event's own form. Events may share it: copies of its objects go in."""


def fill(target: dict[str, Any], patch: Patch) -> None:
    """Put into an object, in place, what it has not: keys that are missing or null, at any depth."""
    for key, value in patch.items():
        there = target.get(key)
        if there is None:
            target[key] = _own(value) if type(value) is dict else value
        elif type(value) is dict and type(there) is dict:
            fill(there, value)


def _own(value: dict[str, Any]) -> dict[str, Any]:
    """A copy of an object and those in it, since a patch may be in a cache."""
    return {key: _own(each) if type(each) is dict else each for key, each in value.items()}
