"""Cache results for texts that repeat, such as user agents, IP addresses and URLs."""

from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

T = TypeVar("T")

CACHE_ENTRIES = 4096
MAX_CACHED_CHARACTERS = 2048
"""Maximum length of a cached text; results for longer ones are computed each time."""


def cached(function: Callable[[str], T]) -> Callable[[str], T]:
    """Wrap a function of a text with a cache of ENTRIES results. The results are shared and must not be changed."""
    kept = lru_cache(CACHE_ENTRIES)(function)

    def find(text: str) -> T:
        return kept(text) if len(text) <= MAX_CACHED_CHARACTERS else function(text)

    return find
