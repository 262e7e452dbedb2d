"""Values from the environment: `${NAME}`, where it is a whole scalar."""

import os
import re
from collections.abc import Iterator
from typing import Any

from deploy.config.mistakes import Place

REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
UNSET = "***"
"""Stands for the value of a variable that is not set."""


def is_reference(value: object) -> bool:
    """Whether a scalar is `${NAME}` and nothing else."""
    return isinstance(value, str) and REFERENCE.fullmatch(value) is not None


def find_texts(data: Any, at: Place = ()) -> Iterator[tuple[Place, str]]:
    """Every string in the data, with its place."""
    if isinstance(data, str):
        yield at, data
    for key, value in data.items() if isinstance(data, dict) else enumerate(data if isinstance(data, list) else ()):
        yield from find_texts(value, (*at, key))


def fill(data: Any, unset: dict[Place, str], at: Place = ()) -> Any:
    """The data with each `${NAME}` replaced; a variable that is not set, or empty, is noted in `unset` by its place."""
    if isinstance(data, dict):
        return {key: fill(value, unset, (*at, key)) for key, value in data.items()}
    if isinstance(data, list):
        return [fill(value, unset, (*at, index)) for index, value in enumerate(data)]
    reference = REFERENCE.fullmatch(data) if isinstance(data, str) else None
    if reference is None:
        return data
    value = os.environ.get(reference[1])
    if not value:
        unset[at] = reference[1]
    return value or UNSET
