"""Limit a rate with a token bucket."""


class TokenBucket:
    """Refills with `rate` tokens per second up to `burst`. Callers may take more than are left and then wait."""

    __slots__ = ("_at", "_level", "burst", "rate")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.rate, self.burst = rate, burst
        self._level, self._at = burst, now

    def take(self, tokens: float, now: float) -> float:
        """Take tokens; returns how many seconds the caller must wait."""
        self._level = min(self.burst, self._level + (now - self._at) * self.rate) - tokens
        self._at = now
        return max(0.0, -self._level / self.rate)

    def pause(self, until: float) -> None:
        """Stop refilling until this time."""
        self._level = min(self._level, 0.0)
        self._at = max(self._at, until)

    def idle(self, now: float) -> bool:
        """Return whether the bucket is full and no caller waits."""
        return self._level + (now - self._at) * self.rate >= self.burst
