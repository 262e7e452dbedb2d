"""Decide which deliveries of a batch may be sent now."""

from collections.abc import Callable

from streams.delivery.flow.batches import Batch
from streams.delivery.flow.breaker import Breaker
from streams.delivery.flow.rates import Rates
from streams.delivery.flow.retry_topic import RATE, RetryTopic
from streams.delivery.flow.schedule import Schedule
from streams.delivery.flow.worker_pool import WorkerPool
from streams.delivery.outcomes.pending import PendingDelivery
from streams.delivery.outcomes.writer import OutcomeWriter
from streams.records.outcomes import Outcome

MAX_ASIDE_SECONDS = 5.0
"""Seconds for which a delivery waits in memory for its user's rate; if it would be longer, in the retry topic."""

MIN_ASIDE_SECONDS = 0.001
"""Seconds that it waits at least: the sum of a clock and a shorter wait may be the same time."""


class Admission:
    """Wait for the vendor's rates, and hold back deliveries that may not be sent.

    `expires` says whether deliveries can become too old.
    """

    def __init__(
        self,
        schedule: Schedule,
        rates: Rates,
        breaker: Breaker,
        pool: WorkerPool[Batch],
        retry_topic: RetryTopic,
        writer: OutcomeWriter,
        clock: Callable[[], float],
        *,
        expires: bool,
    ) -> None:
        self._schedule, self._rates, self._breaker, self._pool = schedule, rates, breaker, pool
        self._retry_topic, self._writer, self._clock, self._expires = retry_topic, writer, clock, expires

    async def admit(self, batch: Batch, deliveries: list[PendingDelivery]) -> list[PendingDelivery]:
        """Wait until these may be sent together; return those that may.

        Deliveries that are too old, or whose user must wait, are left out. If the partition is revoked, or delivery was
        paused meanwhile, the result is empty; after a pause they are in their queue again.
        """
        if self._schedule.holds is not None:
            deliveries = self._schedule.holds.divert(deliveries, batch)
        if deliveries and self._rates.limits_users:
            deliveries = await self._hold_back_users(deliveries)
        if deliveries and (wait := self._rates.wait(len(deliveries))):
            await self._pool.sleep(wait)
        if self._pool.leaving.is_set():
            deliveries = []
        deliveries = [pending for pending in deliveries if not pending.fetched.dropped]
        if self._expires:
            deliveries = self._drop_expired(deliveries)
        if not deliveries:
            if batch.is_probe:
                batch.is_probe = False
                self._breaker.give_back()
        elif self._breaker.is_held or (self._breaker.is_open and not batch.is_probe):
            if batch.is_probe:
                batch.is_probe = False
                self._breaker.give_back()
            self._schedule.wait_for_probe(batch, deliveries)
            return []
        return deliveries

    def _drop_expired(self, deliveries: list[PendingDelivery]) -> list[PendingDelivery]:
        now = self._clock()
        for pending in deliveries:
            if pending.expires <= now:
                self._writer.settle(pending, Outcome.EXPIRED)
        return [pending for pending in deliveries if pending.expires > now]

    async def _hold_back_users(self, deliveries: list[PendingDelivery]) -> list[PendingDelivery]:
        """Return the deliveries that their users' rates allow. The others are put aside; if ordered, wait for all."""
        if self._schedule.holds is not None:
            await self._pool.sleep(max(map(self._wait_for_user, deliveries)))
            return deliveries
        free = []
        for pending in deliveries:
            if pending.slot is None and self._rates.wait_of_user(pending.key) > MAX_ASIDE_SECONDS:
                self._retry_topic.move(pending, RATE)
            elif wait := self._wait_for_user(pending):
                self._schedule.set_aside(pending, max(wait, MIN_ASIDE_SECONDS))
            else:
                free.append(pending)
        return free

    def _wait_for_user(self, pending: PendingDelivery) -> float:
        """Return the seconds until the user's rate allows a delivery; reserves one slot on the first call."""
        if pending.slot is None:
            pending.slot = self._rates.reserve(pending.key)
        return self._rates.wait_for_slot(pending.key, pending.slot)
