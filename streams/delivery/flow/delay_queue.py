"""Hold deliveries until they are due."""

import asyncio
from collections.abc import Callable

from streams.delivery.outcomes.pending import PendingDelivery


class DelayQueue:
    """Hold deliveries until they are due; `release` is called for each."""

    def __init__(self, release: Callable[[PendingDelivery], None]) -> None:
        self._release = release
        self._timers: dict[int, asyncio.TimerHandle] = {}

    def put(self, pending: PendingDelivery, seconds: float) -> None:
        """Hold a delivery for a number of seconds."""
        self._timers[id(pending)] = asyncio.get_running_loop().call_later(seconds, self._take, pending)

    def clear(self) -> None:
        """Discard all deliveries; their partitions are about to be revoked."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def __len__(self) -> int:
        return len(self._timers)

    @property
    def waiting(self) -> set[int]:
        """Return the identities of the deliveries that wait."""
        return set(self._timers)

    def _take(self, pending: PendingDelivery) -> None:
        del self._timers[id(pending)]
        self._release(pending)
