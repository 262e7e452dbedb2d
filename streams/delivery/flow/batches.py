"""Gather pending deliveries into batches."""

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from forwarders.api.contract import Limits
from streams.delivery.outcomes.pending import PendingDelivery

STRIKES = 2
"""How often a delivery fails while others are delivered before the failures to come are taken for its own."""

PROBES = 5
"""How often a delivery fails as a probe before it makes room for others by way of the retry topic."""


@dataclass(frozen=True, slots=True)
class Failures:
    """How often the deliveries of a batch failed together.

    `in_a_row` sets the back-off. `own` counts the failures before which others had been delivered since the previous
    one, and `is_own` says so of the last. `shared` counts failed probes without that. `spent` is the back-off in
    seconds that counts against `retry_in_place`, `last` the number of the last request sent before they failed.
    """

    in_a_row: int = 0
    own: int = 0
    is_own: bool = False
    shared: int = 0
    spent: float = 0.0
    last: int = 0


NO_FAILURES = Failures()


class Batch:
    """Deliveries of one lane and one group that go out together; it takes more until it is full, or sealed."""

    __slots__ = ("deliveries", "failures", "is_probe", "place", "queued", "size", "timer")

    def __init__(self, place: tuple[int, Hashable]) -> None:
        self.place = place
        self.deliveries: list[PendingDelivery] = []
        self.size = 0
        self.queued = False
        self.timer: asyncio.TimerHandle | None = None
        self.failures = NO_FAILURES
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
        part = Batch(self.place)
        part.deliveries, part.failures, part.queued = deliveries, failures, True
        return part


class Batches:
    """Gathers deliveries into batches of one lane and one group.

    `queue` gets each batch with its lane, in the order in which those of a lane must go out, when the batch is full or
    after a linger time (seconds). Until whoever takes it from there has it sealed, it goes on to fill: while a vendor
    is slow, or a rate is kept, batches grow instead of becoming many. A delivery is never in two batches. With
    `ordered` the deliveries of one key go out in the order they came, also where their groups differ.
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
            # What came before of this key has to go out before.
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
        """The deliveries of a batch from the queue, which takes no more."""
        if self._open.get(batch.place) is batch:
            del self._open[batch.place]
        if self._ordered:
            for pending in batch.deliveries:
                if self._last.get(pending.key) is batch:
                    del self._last[pending.key]
        return batch.deliveries

    def clear(self) -> None:
        """Forget what is open; its runs are about to go."""
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
