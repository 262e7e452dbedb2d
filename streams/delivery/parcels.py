"""Deliveries on their way, and the batches they are gathered into."""

import asyncio
import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from forwarders.contract import Delivery, Limits
from streams.delivery.objects import StoredObject
from streams.progress import Run
from streams.topics import DeliveryRecord

STRIKES = 2
"""How often a delivery fails while others are delivered before the failures to come are taken for its own."""

PROBES = 5
"""How often a delivery fails as a probe before it makes room for others by way of the retry topic."""


@dataclass(slots=True)
class Parcel:
    """One delivery from its record to its outcome: what to send, and which record of what is finished by it.

    `size` is that of the payload's JSON in bytes. `expires`, `due` and `since` (the first failure, None before the
    retry topic) are in seconds since 1970. `reserved` says that its user's rate has counted it, `settled` that its
    outcome was recorded or that it was put into the retry topic.
    """

    delivery: DeliveryRecord
    key: bytes | None
    size: int
    run: Run | StoredObject
    index: int
    expires: float = math.inf
    attempts: int = 0
    due: float = 0.0
    since: float | None = None
    reserved: bool = False
    settled: bool = False

    @property
    def item(self) -> Delivery:
        """The delivery as a forwarder sees it."""
        delivery = self.delivery
        return Delivery(delivery.id, delivery.payload, delivery.type, delivery.event, delivery.time)

    @property
    def record(self) -> Any:
        """The record that holds the delivery; that of an object is not kept."""
        assert isinstance(self.run, Run)
        return self.run.records[self.index]

    def finish(self) -> None:
        """The outcome is confirmed."""
        self.run.finish_record(self.index)


@dataclass(frozen=True, slots=True)
class Failures:
    """How often the parcels of a batch failed together.

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
    """Parcels of one lane and one group that go out together; it takes more until it is full, or sealed."""

    __slots__ = ("failures", "is_probe", "parcels", "place", "queued", "size", "timer")

    def __init__(self, place: tuple[int, Hashable]) -> None:
        self.place = place
        self.parcels: list[Parcel] = []
        self.size = 0
        self.queued = False
        self.timer: asyncio.TimerHandle | None = None
        self.failures = NO_FAILURES
        self.is_probe = False

    @property
    def is_suspect(self) -> bool:
        """Whether this is a single delivery that has failed while others were delivered."""
        return self.failures.own > 0 and len(self.parcels) == 1

    def part(self, parcels: list[Parcel], failures: Failures) -> "Batch":
        """Return a batch of some of these parcels that failed, to be sent again."""
        part = Batch(self.place)
        part.parcels, part.failures, part.queued = parcels, failures, True
        return part


class Batches:
    """Gathers parcels into batches of one lane and one group.

    `queue` gets each batch with its lane, in the order in which those of a lane must go out, when the batch is full or
    after a linger time (seconds). Until whoever takes it from there has it sealed, it goes on to fill: while a vendor
    is slow, or a rate is kept, batches grow instead of becoming many. A parcel is never in two batches. With `ordered`
    the parcels of one key go out in the order they came, also where their groups differ.
    """

    def __init__(
        self, limits: Limits, linger: float, queue: Callable[[int, Batch], None], *, ordered: bool = False
    ) -> None:
        self._limits, self._linger, self._queue, self._ordered = limits, linger, queue, ordered
        self._open: dict[tuple[int, Hashable], Batch] = {}
        self._last: dict[bytes | None, Batch] = {}

    def add(self, parcel: Parcel, lane: int, group: Hashable) -> None:
        """Put a parcel into the open batch of its lane and group."""
        place = (lane, group)
        batch = self._open.get(place)
        last = self._last.get(parcel.key) if self._ordered else None
        if last is not None and last is not batch:
            # What came before of this key has to go out before.
            self._end_linger(last)
            if batch is not None and batch.queued:
                batch = None
        if batch is not None and batch.size + parcel.size > self._limits.bytes:
            self._end_linger(batch)
            batch = None
        if batch is None:
            batch = self._open[place] = Batch(place)
            if self._limits.items > 1:
                batch.timer = asyncio.get_running_loop().call_later(self._linger, self._end_linger, batch)
        batch.parcels.append(parcel)
        batch.size += parcel.size
        if self._ordered:
            self._last[parcel.key] = batch
        if len(batch.parcels) >= self._limits.items:
            del self._open[place]
            self._end_linger(batch)

    def seal(self, batch: Batch) -> list[Parcel]:
        """The parcels of a batch from the queue, which takes no more."""
        if self._open.get(batch.place) is batch:
            del self._open[batch.place]
        if self._ordered:
            for parcel in batch.parcels:
                if self._last.get(parcel.key) is batch:
                    del self._last[parcel.key]
        return batch.parcels

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
            self._queue(batch.place[0], batch)


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

    @property
    def waiting(self) -> set[int]:
        """The identities of the parcels that wait."""
        return set(self._timers)

    def _take(self, parcel: Parcel) -> None:
        del self._timers[id(parcel)]
        self._release(parcel)
