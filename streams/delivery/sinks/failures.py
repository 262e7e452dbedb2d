"""Decide what happens to deliveries that failed: retry, divide, retry topic or dead letter."""

from collections.abc import Callable
from dataclasses import replace

from forwarders.api.contract import PermanentFailure
from streams.delivery.flow.backoff import backoff
from streams.delivery.flow.batches import PROBES, STRIKES, Batch
from streams.delivery.flow.breaker import Breaker
from streams.delivery.flow.key_holds import KeyHolds
from streams.delivery.flow.rates import Rates
from streams.delivery.flow.retry_topic import THROTTLED, RetryTopic
from streams.delivery.flow.schedule import Schedule
from streams.delivery.flow.settings import DeliverySettings
from streams.delivery.http.sender import Attempt
from streams.delivery.outcomes.pending import PendingDelivery
from streams.delivery.outcomes.writer import OutcomeWriter


class FailureHandler:
    """Schedule failed deliveries of one integration again, or give them up.

    `is_full` says whether memory has no room for more deliveries.
    """

    def __init__(
        self,
        settings: DeliverySettings,
        schedule: Schedule,
        breaker: Breaker,
        rates: Rates,
        retry_topic: RetryTopic,
        writer: OutcomeWriter,
        is_full: Callable[[], bool],
    ) -> None:
        self._settings, self._schedule, self._breaker, self._rates = settings, schedule, breaker, rates
        self._retry_topic, self._writer, self._is_full = retry_topic, writer, is_full
        self._throttles = 0

    def note_delivered(self) -> None:
        """Start over with the shortest pause the next time that the vendor throttles."""
        self._throttles = 0

    def throttled(self, batch: Batch, tries: int, *asked: float | None) -> None:
        """Send nothing for a while, because the vendor is throttling, and this batch after that."""
        wait = backoff(self._settings, max(tries, self._throttles), *asked)
        if not self._rates.paused:
            self._throttles += 1
        self._rates.pause(wait)
        self._schedule.retry(batch, wait)

    def throttled_user(self, pending: PendingDelivery, asked: float | None) -> bool:
        """Send nothing of this user for a while; return whether the delivery was put aside.

        If it was, other users' deliveries continue. Ordered deliveries are not put aside.
        """
        wait = backoff(self._settings, 0, asked)
        self._rates.pause_user(pending.key, wait)
        if self._schedule.holds is not None:
            return False
        if (asked or wait) > self._settings.retry_in_place:
            self._retry_topic.move(pending, THROTTLED)
        else:
            self._schedule.set_aside(pending, wait)
        return True

    def failed(self, batch: Batch, wait: float, attempt: Attempt, *, suspect: bool) -> None:
        """Decide what happens to deliveries that failed together, and that may be sent again after `wait` seconds."""
        failures = batch.failures
        # While delivery is paused the back-off is not the delivery's fault.
        counts = suspect or not self._breaker.is_open
        exhausted = counts and failures.spent + wait > self._settings.retry_in_place
        if counts:
            batch.failures = replace(failures, spent=failures.spent + wait)
        holds = self._schedule.holds
        if len(batch.deliveries) > 1 and self._should_divide(batch, counts=counts, exhausted=exhausted):
            self._divide(batch, 0.0 if suspect else wait)
        elif holds is not None:
            self._retry_or_dead_letter(batch, wait, attempt, holds, suspect=suspect, counts=counts)
        elif exhausted or failures.shared >= PROBES:
            for pending in batch.deliveries:
                self._retry_topic.move(pending, "failing" if counts else "paused", failures.spent)
        else:
            self._schedule.retry(batch, wait)

    def _should_divide(self, batch: Batch, *, counts: bool, exhausted: bool) -> bool:
        """Return whether one delivery may be the reason why a batch fails."""
        if not counts:
            return batch.failures.shared >= PROBES
        # A whole batch may wait in the retry topic once; an ordered integration has none.
        waited = self._schedule.holds is not None or any(pending.since is not None for pending in batch.deliveries)
        return batch.failures.own > 0 or (exhausted and waited)

    def _retry_or_dead_letter(
        self, batch: Batch, wait: float, attempt: Attempt, holds: KeyHolds, *, suspect: bool, counts: bool
    ) -> None:
        """Hold the keys of ordered deliveries that failed, until one has failed for too long."""
        failures = batch.failures
        if not counts and failures.own >= STRIKES:
            counts = True
            failures = batch.failures = replace(failures, spent=failures.spent + wait)
        outlasted = counts and failures.own > 0 and failures.spent > self._settings.retry_for
        # Full memory matters only if no delivery succeeds: then nothing more is fetched, and nothing ever would be.
        in_the_way = holds.full if suspect else failures.own > 0 and self._is_full()
        if len(batch.deliveries) == 1 and (outlasted or in_the_way):
            (pending,) = batch.deliveries
            holds.outlast(pending.key, failures.spent)
            failure = PermanentFailure("retries", f"failed for {failures.spent:.0f} s")
            self._writer.dead_letter(pending, failure, attempt.request, attempt.response)
        else:
            self._schedule.retry(batch, wait)

    def _divide(self, batch: Batch, wait: float) -> None:
        """Send a failing batch in two parts, to find the delivery that fails. A key is never divided."""
        deliveries, holds = batch.deliveries, self._schedule.holds
        failures = replace(batch.failures, shared=min(batch.failures.shared, PROBES - 1))
        if holds is None:
            half = len(deliveries) // 2
            parts = [deliveries[:half], deliveries[half:]]
        else:
            keys = list(dict.fromkeys(pending.key for pending in deliveries))
            first = set(keys[: len(keys) // 2])
            parts = [[each for each in deliveries if (each.key in first) is chosen] for chosen in (True, False)]
            if len(keys) == 1:
                parts = [deliveries[:1]]
                holds.hold(batch)
                holds.push_back(deliveries[1:])
        for part in parts:
            self._schedule.retry(batch.part(part, failures), wait)
