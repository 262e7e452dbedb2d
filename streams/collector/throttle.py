"""Limit the request and event rates of each write key."""

import math
from collections.abc import Callable
from time import monotonic

from streams.collector.errors import RequestError
from streams.observability import metrics
from streams.sources.limits import SourceLimits
from streams.sources.source import Source
from streams.token_bucket import TokenBucket


class Allowance:
    """The remaining rate limit of one write key."""

    def __init__(self, source: str, limits: SourceLimits, clock: Callable[[], float]) -> None:
        self.limits = limits
        self._source = source
        self._clock = clock
        self._requests = self._bucket(limits.requests_per_second)
        self._events = self._bucket(limits.events_per_second)

    def take_request(self) -> None:
        """Count a request; raises RequestError if the rate limit is exceeded."""
        self._take(self._requests, 1, "requests")

    def take_events(self, count: int) -> None:
        """Count `count` events; raises RequestError if the rate limit is already exceeded.

        A batch may exceed the remaining limit; later batches are then rejected until the excess has refilled.
        """
        self._take(self._events, count, "events")

    def _take(self, bucket: TokenBucket | None, count: int, unit: str) -> None:
        if bucket is None:
            return
        now = self._clock()
        wait = bucket.take(0, now)
        if wait:
            metrics.COLLECTOR_THROTTLED.labels(self._source).inc()
            raise RequestError(
                "throttled",
                f"rate limit exceeded: {bucket.rate:g} {unit}/second for this write key",
                ((b"retry-after", b"%d" % math.ceil(wait)),),
            )
        bucket.take(count, now)

    def _bucket(self, rate: float | None) -> TokenBucket | None:
        return TokenBucket(rate, max(1.0, rate * self.limits.burst), self._clock()) if rate else None


UNBOUNDED = Allowance("", SourceLimits(), monotonic)
"""The allowance of a sender without rate limits."""


class Throttle:
    """The allowances of one collector process. They are kept on a reload unless their limits change."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._allowances: dict[bytes, Allowance] = {}

    def find(self, key: bytes, source: Source) -> Allowance:
        """Return the allowance for a source and a write key, by the key's digest."""
        allowance = self._allowances.get(key)
        if allowance is None or allowance.limits != source.limits:
            allowance = self._allowances[key] = Allowance(source.name, source.limits, self._clock)
        return allowance
