"""Apply the vendor's rate limits with token buckets, and the pauses that it requests."""

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Self

from forwarders.api.contract import Contract, Rate
from streams.delivery.flow.settings import DeliverySettings
from streams.token_bucket import TokenBucket

MAX_TRACKED_USERS = 10_000
"""Number of tracked users from which on those without a wait are removed."""


class _User:
    """The buckets of one user, and for how many seconds it was paused in total."""

    __slots__ = ("_buckets", "_paused_until", "paused_seconds")

    def __init__(self, buckets: Sequence[TokenBucket]) -> None:
        self._buckets = buckets
        self._paused_until = 0.0
        self.paused_seconds = 0.0

    def take(self, tokens: float, now: float) -> float:
        """Take tokens of each bucket; return how many seconds the caller must wait."""
        return max(bucket.take(tokens, now) for bucket in self._buckets)

    def pause(self, now: float, seconds: float) -> None:
        """Take no tokens for a number of seconds."""
        until = now + seconds
        self.paused_seconds += max(0.0, until - max(now, self._paused_until))
        self._paused_until = max(until, self._paused_until)
        for bucket in self._buckets:
            bucket.pause(until)

    def idle(self, now: float) -> bool:
        """Return whether nothing of the user has to wait."""
        return all(bucket.idle(now) for bucket in self._buckets)


class Rates:
    """The rate limits of one integration in one worker.

    `share` is the worker's part of the topic's partitions, and so of the rates that all workers share. Rates per user
    are not divided, because a user is in one partition.
    """

    def __init__(self, rates: Sequence[Rate], clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        now = clock()
        self._shared = [(rate, self._bucket(rate, now)) for rate in rates if rate.per != "user"]
        self._of_user = [rate for rate in rates if rate.per == "user"]
        self._users: dict[bytes | None, _User] = {}
        self._paused_until = now
        self.share = 1.0

    @classmethod
    def of(cls, contract: Contract, settings: DeliverySettings, clock: Callable[[], float] = monotonic) -> Self:
        """Return the vendor's rates, and the rate in the settings if there is one."""
        added = (Rate(1, 1 / settings.requests_per_second),) if settings.requests_per_second else ()
        return cls((*contract.rates, *added), clock)

    def wait(self, items: int) -> float:
        """Return the seconds until a request with this number of items may be sent; it counts as sent."""
        now = self._clock()
        waits = [self._paused_until - now]
        for rate, bucket in self._shared:
            bucket.rate, bucket.burst = self._refill(rate) * self.share, max(1.0, self._burst(rate) * self.share)
            waits.append(bucket.take(items if rate.of == "items" else 1, now))
        return max(0.0, *waits)

    def pause(self, seconds: float) -> None:
        """Send nothing for a number of seconds."""
        self._paused_until = max(self._paused_until, self._clock() + seconds)

    @property
    def paused(self) -> bool:
        """Return whether a pause is in effect."""
        return self._paused_until > self._clock()

    @property
    def limits_users(self) -> bool:
        """Return whether any user may have to wait."""
        return bool(self._of_user or self._users)

    def wait_of_user(self, key: bytes | None) -> float:
        """Return the seconds until a further item of this user may be sent; it does not count as sent."""
        now = self._clock()
        user = self._user(key, now)
        return user.take(0.0, now) if user is not None else 0.0

    def reserve(self, key: bytes | None) -> float:
        """Count one item of this user as sent; return its slot, for `wait_for_slot`."""
        now = self._clock()
        user = self._user(key, now)
        return now + user.take(1.0, now) - user.paused_seconds if user is not None else now

    def wait_for_slot(self, key: bytes | None, slot: float) -> float:
        """Return the seconds until the item with this slot may be sent; pauses of its user move it."""
        user = self._users.get(key)
        return max(0.0, slot + (user.paused_seconds if user is not None else 0.0) - self._clock())

    def pause_user(self, key: bytes | None, seconds: float) -> None:
        """Send nothing of this user for a number of seconds."""
        now = self._clock()
        (self._users.get(key) or self._add_user(key, now)).pause(now, seconds)

    def _user(self, key: bytes | None, now: float) -> "_User | None":
        user = self._users.get(key)
        return self._add_user(key, now) if user is None and self._of_user else user

    def _add_user(self, key: bytes | None, now: float) -> "_User":
        if len(self._users) >= MAX_TRACKED_USERS:
            self._users = {name: user for name, user in self._users.items() if not user.idle(now)}
        rates = self._of_user or [Rate(1_000_000)]
        user = self._users[key] = _User([self._bucket(rate, now) for rate in rates])
        return user

    def _bucket(self, rate: Rate, now: float) -> TokenBucket:
        return TokenBucket(self._refill(rate), self._burst(rate), now)

    @staticmethod
    def _refill(rate: Rate) -> float:
        return rate.count / rate.seconds

    @staticmethod
    def _burst(rate: Rate) -> float:
        # A full bucket and its refill together exceed the rate; vendors tolerate a tenth.
        return max(1.0, rate.count / 10)
