"""Compute the delay before the next attempt."""

import random

from streams.delivery.flow.settings import DeliverySettings


def backoff(settings: DeliverySettings, tries: int, *asked: float | None) -> float:
    """Seconds to wait after so many tries: full jitter under a bound that doubles, and what the vendor asks for, up to
    the bound. Where it asks for 0 seconds the first try is at once.
    """
    if not tries and all(seconds == 0 for seconds in asked):
        return 0.0
    bound = min(settings.backoff_max, settings.backoff_min * 2 ** min(tries, 30))
    longest = max(seconds or 0.0 for seconds in asked)
    return max(random.uniform(0, bound), min(longest, settings.backoff_max))  # noqa: S311
