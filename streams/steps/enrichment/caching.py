"""Bounded caches of what is computed from texts that repeat: user agents, addresses, URLs."""

from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

T = TypeVar("T")

CACHE_ENTRIES = 4096
MAX_CACHED_CHARACTERS = 2048
"""Characters of a text that is kept; a longer one is computed each time."""


def cached(function: Callable[[str], T]) -> Callable[[str], T]:
    """The function of a text with a cache of ENTRIES results. What it returns is shared, and must not be changed."""
    kept = lru_cache(CACHE_ENTRIES)(function)

    def find(text: str) -> T:
        return kept(text) if len(text) <= MAX_CACHED_CHARACTERS else function(text)

    return find
