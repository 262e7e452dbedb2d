"""The rates of sources: a 429 for what comes faster than a write key may send."""

import math
from collections.abc import Callable
from time import monotonic

from streams.collector.errors import RequestError
from streams.observability import metrics
from streams.sources.limits import SourceLimits
from streams.sources.source import Source
from streams.token_bucket import TokenBucket


class Allowance:
    """What one write key may still send."""

    def __init__(self, source: str, limits: SourceLimits, clock: Callable[[], float]) -> None:
        self.limits = limits
        self._source = source
        self._clock = clock
        self._requests = self._bucket(limits.requests_per_second)
        self._events = self._bucket(limits.events_per_second)

    def take_request(self) -> None:
        """Take a request off it; raises RequestError where none is left."""
        self._take(self._requests, 1, "requests")

    def take_events(self, count: int) -> None:
        """Take so many events off it, as a debt if they are more than are left; raises RequestError where none is."""
        self._take(self._events, count, "events")

    def _take(self, bucket: TokenBucket | None, count: int, what: str) -> None:
        if bucket is None:
            return
        now = self._clock()
        wait = bucket.take(0, now)
        if wait:
            metrics.COLLECTOR_THROTTLED.labels(self._source).inc()
            raise RequestError(
                "throttled",
                f"with this write key come more than {bucket.rate:g} {what} a second",
                ((b"retry-after", b"%d" % math.ceil(wait)),),
            )
        bucket.take(count, now)

    def _bucket(self, rate: float | None) -> TokenBucket | None:
        return TokenBucket(rate, max(1.0, rate * self.limits.burst), self._clock()) if rate else None


UNBOUNDED = Allowance("", SourceLimits(), monotonic)
"""The allowance of a sender without rates."""


class Throttle:
    """The allowances of one collector process; they outlive a new configuration that leaves their limits."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._allowances: dict[bytes, Allowance] = {}

    def find(self, key: bytes, source: Source) -> Allowance:
        """The allowance of a sender to this source, by the digest of its write key."""
        allowance = self._allowances.get(key)
        if allowance is None or allowance.limits != source.limits:
            allowance = self._allowances[key] = Allowance(source.name, source.limits, self._clock)
        return allowance
