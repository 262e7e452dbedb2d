"""Apply the results of enrichments to events."""

from collections.abc import Mapping
from typing import Any

Patch = Mapping[str, Any]
"""A change of an event, in the event's own form. Several events may share one, so its objects are copied."""


def fill(target: dict[str, Any], patch: Patch) -> None:
    """Fill in the keys of an object that are missing or null, in place and at any depth."""
    for key, value in patch.items():
        there = target.get(key)
        if there is None:
            target[key] = _own(value) if type(value) is dict else value
        elif type(value) is dict and type(there) is dict:
            fill(there, value)


def _own(value: dict[str, Any]) -> dict[str, Any]:
    """Copy an object and nested objects, since a cached patch must not change."""
    return {key: _own(each) if type(each) is dict else each for key, each in value.items()}
