"""Compute the delay before the next attempt."""

import random

from streams.delivery.flow.settings import DeliverySettings


def backoff(settings: DeliverySettings, tries: int, *asked: float | None) -> float:
    """Return the seconds to wait before the next attempt.

    The delay is random, below a bound that doubles with each try, and at least the seconds that the vendor asked for,
    up to `backoff_max`. If the vendor asked for 0 seconds, the first retry is immediate.
    """
    if not tries and all(seconds == 0 for seconds in asked):
        return 0.0
    bound = min(settings.backoff_max, settings.backoff_min * 2 ** min(tries, 30))
    longest = max(seconds or 0.0 for seconds in asked)
    return max(random.uniform(0, bound), min(longest, settings.backoff_max))  # noqa: S311
