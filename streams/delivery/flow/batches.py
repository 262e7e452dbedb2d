"""Gather pending deliveries into batches."""

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from forwarders.api.contract import Limits
from streams.delivery.outcomes.pending import PendingDelivery

STRIKES = 2
"""Failures of a delivery while others are delivered, after which later failures are attributed to it."""

PROBES = 5
"""Failures of a delivery as a probe after which it moves to the retry topic to make room for others."""


@dataclass(frozen=True, slots=True)
class Failures:
    """How often the deliveries of a batch failed together.

    Attributes:
        in_a_row: Consecutive failures; determines the back-off.
        own: Failures that are attributed to these deliveries: others were delivered since the previous failure.
        is_own: Whether the last failure is one of `own`.
        shared: Failed probes that are not in `own`.
        spent: Seconds of back-off that count against `retry_in_place`.
        last: The number of the last request sent before they failed.

    """

    in_a_row: int = 0
    own: int = 0
    is_own: bool = False
    shared: int = 0
    spent: float = 0.0
    last: int = 0


NO_FAILURES = Failures()


class Batch:
    """Deliveries of one queue and one group that are sent together; it accepts more until it is full, or sealed."""

    __slots__ = ("deliveries", "failures", "is_probe", "place", "queued", "size", "timer")

    def __init__(
        self,
        place: tuple[int, Hashable],
        deliveries: list[PendingDelivery] | None = None,
        failures: Failures = NO_FAILURES,
        *,
        queued: bool = False,
    ) -> None:
        self.place, self.failures, self.queued = place, failures, queued
        self.deliveries: list[PendingDelivery] = [] if deliveries is None else deliveries
        self.size = 0
        self.timer: asyncio.TimerHandle | None = None
        self.is_probe = False

    @property
    def queue(self) -> int:
        """Return the number of its queue."""
        return self.place[0]

    @property
    def is_suspect(self) -> bool:
        """Whether this is a single delivery that has failed while others were delivered."""
        return self.failures.own > 0 and len(self.deliveries) == 1

    def part(self, deliveries: list[PendingDelivery], failures: Failures) -> "Batch":
        """Return a batch of some of these deliveries that failed, to be sent again."""
        return Batch(self.place, deliveries, failures, queued=True)


class Batches:
    """Gather deliveries into batches of one queue and one group.

    `enqueue` is called with each batch and the number of its queue when the batch is full, or after `linger` seconds.
    The batches of a queue must be sent in the order of these calls. A batch continues to fill until it is sealed: while
    a vendor is slow, or a rate limit applies, batches grow instead of multiplying. A delivery is never in two batches.
    With `ordered` the deliveries of one key are sent in the order of their arrival, even if their groups differ.
    """

    def __init__(
        self, limits: Limits, linger: float, enqueue: Callable[[int, Batch], None], *, ordered: bool = False
    ) -> None:
        self._limits, self._linger, self._enqueue, self._ordered = limits, linger, enqueue, ordered
        self._open: dict[tuple[int, Hashable], Batch] = {}
        self._last: dict[bytes | None, Batch] = {}

    def add(self, pending: PendingDelivery, queue: int, group: Hashable) -> None:
        """Put a delivery into the open batch of its queue and group."""
        place = (queue, group)
        batch = self._open.get(place)
        last = self._last.get(pending.key) if self._ordered else None
        if last is not None and last is not batch:
            # Earlier deliveries of this key must be sent first.
            self._end_linger(last)
            if batch is not None and batch.queued:
                batch = None
        if batch is not None and batch.size + pending.size > self._limits.bytes:
            self._end_linger(batch)
            batch = None
        if batch is None:
            batch = self._open[place] = Batch(place)
            if self._limits.items > 1:
                batch.timer = asyncio.get_running_loop().call_later(self._linger, self._end_linger, batch)
        batch.deliveries.append(pending)
        batch.size += pending.size
        if self._ordered:
            self._last[pending.key] = batch
        if len(batch.deliveries) >= self._limits.items:
            del self._open[place]
            self._end_linger(batch)

    def seal(self, batch: Batch) -> list[PendingDelivery]:
        """Close a batch from the queue, and return its deliveries."""
        if self._open.get(batch.place) is batch:
            del self._open[batch.place]
        if self._ordered:
            for pending in batch.deliveries:
                if self._last.get(pending.key) is batch:
                    del self._last[pending.key]
        return batch.deliveries

    def clear(self) -> None:
        """Discard the open batches; their partitions are about to be revoked."""
        for batch in self._open.values():
            if batch.timer:
                batch.timer.cancel()
        self._open.clear()
        self._last.clear()

    def _end_linger(self, batch: Batch) -> None:
        if batch.timer:
            batch.timer.cancel()
        if not batch.queued:
            batch.queued = True
            self._enqueue(batch.queue, batch)
