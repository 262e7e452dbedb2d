"""Deliveries on their way, and the batches they are gathered into."""

import asyncio
import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from forwarders.contract import Item, Limits
from streams.delivery.objects import StoredObject
from streams.progress import Run
from streams.topics import Delivery


@dataclass(slots=True)
class Parcel:
    """One delivery from its record to its outcome: what to send, and which record of what is finished by it.

    `size` is that of the payload's JSON in bytes. `expires`, `due` and `since` (the first failure, None before the
    retry topic) are in seconds since 1970. `reserved` says that its user's rate has counted it.
    """

    delivery: Delivery
    key: bytes | None
    size: int
    run: Run | StoredObject
    index: int
    expires: float = math.inf
    attempts: int = 0
    due: float = 0.0
    since: float | None = None
    reserved: bool = False

    @property
    def item(self) -> Item:
        """The delivery as a forwarder sees it."""
        delivery = self.delivery
        return Item(delivery.id, delivery.payload, delivery.type, delivery.event, delivery.time)

    @property
    def record(self) -> Any:
        """The record that holds the delivery; that of an object is not kept."""
        assert isinstance(self.run, Run)
        return self.run.records[self.index]

    def finish(self) -> None:
        """The outcome is confirmed."""
        self.run.finish_record(self.index)


class _Open:
    __slots__ = ("parcels", "size", "timer")

    def __init__(self) -> None:
        self.parcels: list[Parcel] = []
        self.size = 0
        self.timer: asyncio.TimerHandle | None = None


class Batches:
    """Gathers parcels into batches of one lane and one group, each closed when full or after a linger time (seconds).

    A parcel is never in two batches. `close` gets each closed batch with its lane.
    """

    def __init__(self, limits: Limits, linger: float, close: Callable[[int, list[Parcel]], None]) -> None:
        self._limits, self._linger, self._close = limits, linger, close
        self._open: dict[tuple[int, Hashable], _Open] = {}

    def add(self, parcel: Parcel, lane: int, group: Hashable) -> None:
        """Put a parcel into the open batch of its lane and group."""
        if self._limits.items == 1:
            self._close(lane, [parcel])
            return
        place = (lane, group)
        batch = self._open.get(place)
        if batch is not None and batch.size + parcel.size > self._limits.bytes:
            self._shut(place)
            batch = None
        if batch is None:
            batch = self._open[place] = _Open()
            batch.timer = asyncio.get_running_loop().call_later(self._linger, self._shut, place)
        batch.parcels.append(parcel)
        batch.size += parcel.size
        if len(batch.parcels) >= self._limits.items:
            self._shut(place)

    def clear(self) -> None:
        """Forget what is open; its runs are about to go."""
        for batch in self._open.values():
            if batch.timer:
                batch.timer.cancel()
        self._open.clear()

    def _shut(self, place: tuple[int, Hashable]) -> None:
        batch = self._open.pop(place)
        if batch.timer:
            batch.timer.cancel()
        self._close(place[0], batch.parcels)


class Shelf:
    """Parcels that wait for a time of their own; `release` gets each when it has come."""

    def __init__(self, release: Callable[[Parcel], None]) -> None:
        self._release = release
        self._timers: dict[int, asyncio.TimerHandle] = {}

    def put(self, parcel: Parcel, seconds: float) -> None:
        """Keep a parcel for so long."""
        self._timers[id(parcel)] = asyncio.get_running_loop().call_later(seconds, self._take, parcel)

    def clear(self) -> None:
        """Forget all; their runs are about to go."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def __len__(self) -> int:
        return len(self._timers)

    def _take(self, parcel: Parcel) -> None:
        del self._timers[id(parcel)]
        self._release(parcel)
