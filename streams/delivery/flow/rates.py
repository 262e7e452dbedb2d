"""Keep the vendor's rate limits with token buckets, and the pauses that it asks for."""

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Self

from forwarders.api.contract import Contract, Rate
from streams.delivery.flow.settings import DeliverySettings
from streams.token_bucket import TokenBucket

MAX_TRACKED_USERS = 10_000
"""Users remembered before those are forgotten who wait for nothing."""


class Rates:
    """The rates of one integration in one worker.

    `share` is the worker's part of the topic's partitions, and so of the rates that all workers share; those of a user
    it has whole, since a user is in one partition.
    """

    def __init__(self, rates: Sequence[Rate], clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        now = clock()
        self._shared = [(rate, self._bucket(rate, now)) for rate in rates if rate.per != "user"]
        self._of_user = [rate for rate in rates if rate.per == "user"]
        self._users: dict[bytes | None, list[TokenBucket]] = {}
        self._paused_until = now
        self.share = 1.0

    @classmethod
    def of(cls, contract: Contract, settings: DeliverySettings, clock: Callable[[], float] = monotonic) -> Self:
        """Return the vendor's rates, and the one that the settings add."""
        added = (Rate(1, 1 / settings.requests_per_second),) if settings.requests_per_second else ()
        return cls((*contract.rates, *added), clock)

    def wait(self, items: int) -> float:
        """Seconds until a request with so many items may go out; it counts as sent."""
        now = self._clock()
        waits = [self._paused_until - now]
        for rate, bucket in self._shared:
            bucket.rate, bucket.burst = self._refill(rate) * self.share, max(1.0, self._burst(rate) * self.share)
            waits.append(bucket.take(items if rate.of == "items" else 1, now))
        return max(0.0, *waits)

    def pause(self, seconds: float) -> None:
        """The vendor takes nothing for so long."""
        self._paused_until = max(self._paused_until, self._clock() + seconds)

    @property
    def paused(self) -> bool:
        """Whether the vendor takes nothing now."""
        return self._paused_until > self._clock()

    @property
    def limits_users(self) -> bool:
        """Whether any user may have to wait."""
        return bool(self._of_user or self._users)

    def wait_of_user(self, key: bytes | None, *, counts: bool) -> float:
        """Seconds until this user's next item may go out; with `counts` it counts as sent, else it did already."""
        now = self._clock()
        buckets = self._users.get(key)
        if buckets is None:
            if not self._of_user:
                return 0.0
            buckets = self._add_user(key, now)
        return max(bucket.take(1.0 if counts else 0.0, now) for bucket in buckets)

    def pause_user(self, key: bytes | None, seconds: float) -> None:
        """The vendor takes nothing of this user for so long."""
        now = self._clock()
        for bucket in self._users.get(key) or self._add_user(key, now):
            bucket.pause(now + seconds)

    def _add_user(self, key: bytes | None, now: float) -> list[TokenBucket]:
        if len(self._users) >= MAX_TRACKED_USERS:
            self._users = {
                name: buckets
                for name, buckets in self._users.items()
                if not all(bucket.idle(now) for bucket in buckets)
            }
        rates = self._of_user or [Rate(1_000_000)]
        buckets = self._users[key] = [self._bucket(rate, now) for rate in rates]
        return buckets

    def _bucket(self, rate: Rate, now: float) -> TokenBucket:
        return TokenBucket(self._refill(rate), self._burst(rate), now)

    @staticmethod
    def _refill(rate: Rate) -> float:
        return rate.count / rate.seconds

    @staticmethod
    def _burst(rate: Rate) -> float:
        # A full bucket on top of its refill is more than the rate; a tenth of it is what a vendor forgives.
        return max(1.0, rate.count / 10)
