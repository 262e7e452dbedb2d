"""Move failing deliveries to an integration's retry topic."""

from collections.abc import Callable

from forwarders.api.contract import PermanentFailure
from streams.delivery.flow.settings import DeliverySettings
from streams.delivery.outcomes.pending import PendingDelivery
from streams.delivery.outcomes.writer import OutcomeWriter
from streams.records.delivery import Retried

RATE = "rate"
"""The reason of a delivery that waits for its user's rate, and of its dead letter if it never has room."""

THROTTLED = "throttled"
"""The reason of a delivery whose user the vendor throttles for a longer time."""

RATE_REASONS = frozenset((RATE, THROTTLED))
"""The reasons that say nothing about the delivery itself."""


class RetryTopic:
    """Move deliveries to the retry topic until they have failed for `retry_for` seconds."""

    def __init__(self, settings: DeliverySettings, writer: OutcomeWriter, clock: Callable[[], float]) -> None:
        self._delay, self._retry_for = settings.retry_delay, settings.retry_for
        self._writer, self._clock = writer, clock

    def move(self, pending: PendingDelivery, reason: str, spent: float = 0.0) -> None:
        """Move a delivery to the retry topic, or write its dead letter if it failed for too long.

        Its age, which counts against `retry_for`, is the time from `since` to `due` of its record, and the `spent`
        seconds of back-off. It does not grow while delivery is paused (`reason` is "paused").
        """
        age = spent if pending.since is None else max(0.0, pending.due - pending.since) + spent
        if reason != "paused":
            if age > self._retry_for:
                self._writer.dead_letter(pending, _give_up(reason, age))
                return
            age += self._delay
        due = self._clock() + self._delay
        self._writer.requeue(pending, Retried(pending.attempts, due, due - age, reason))


def _give_up(reason: str, age: float) -> PermanentFailure:
    if reason in RATE_REASONS:
        return PermanentFailure(RATE, f"the rate of its user had no room for {age:.0f} s")
    return PermanentFailure("retries", f"failed for {age:.0f} s ({reason})")
