"""Queue batches that may be sent, and choose probes while delivery is paused."""

import asyncio
import random
from collections import deque
from collections.abc import Sequence

from streams.delivery.flow.batches import Batch
from streams.delivery.flow.breaker import Breaker

SAMPLE = 16
"""Number of waiting batches that are compared to choose a probe."""


class BatchQueue(asyncio.Queue[Batch]):
    """A first-in, first-out queue. `get` waits while the breaker is open, so that no worker holds a batch meanwhile.

    While delivery is paused, each probe uses another batch: the one with the fewest failures in a random sample. So
    deliveries that always fail do not block others, and an outage costs each delivery few attempts. With `ordered`,
    batches keep their order, and a failed batch is appended to the queue again.
    """

    _queue: deque[Batch]

    def __init__(self, breaker: Breaker, *, ordered: bool) -> None:
        super().__init__()
        self._breaker, self._ordered = breaker, ordered
        self._to_front = False

    async def get(self) -> Batch:
        """Remove and return the next batch that may be sent."""
        breaker = self._breaker
        while True:
            while not breaker.ready:
                await breaker.changed()
            batch = await super().get()
            batch.is_probe = breaker.is_open
            if breaker.allows():
                return batch
            self.put_back(batch)

    @property
    def waiting(self) -> Sequence[Batch]:
        """Return the batches that wait."""
        return self._queue

    def put_back(self, batch: Batch) -> None:
        """Put a batch that could not be sent in front of the others."""
        self._to_front = True
        self.put_nowait(batch)

    def take_suspects(self) -> list[Batch]:
        """Remove and return the single deliveries that have failed while others were delivered."""
        found = [batch for batch in self._queue if batch.is_suspect]
        if found:
            self._queue = deque(batch for batch in self._queue if not batch.is_suspect)
        return found

    def take_first(self, count: int) -> list[Batch]:
        """Remove and return the batches that have waited longest, at most `count`."""
        return [self._queue.popleft() for _ in range(min(count, len(self._queue)))]

    def clear(self) -> None:
        """Discard all batches."""
        while not self.empty():
            self.get_nowait()

    def _put(self, item: Batch) -> None:
        if self._to_front:
            self._queue.appendleft(item)
            self._to_front = False
        else:
            self._queue.append(item)

    def _get(self) -> Batch:
        waiting = self._queue
        if self._ordered or not self._breaker.is_open:
            return waiting.popleft()
        places = random.sample(range(len(waiting)), min(SAMPLE, len(waiting)))
        place = min(places, key=lambda each: waiting[each].failures.in_a_row)
        batch = waiting[place]
        del waiting[place]
        return batch
