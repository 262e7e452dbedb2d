"""Hold back the keys of an ordered integration while a failed delivery is retried."""

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import replace
from itertools import chain

from forwarders.api.contract import Limits
from streams.delivery.flow.batches import NO_FAILURES, PROBES, STRIKES, Batch
from streams.delivery.outcomes.pending import PendingDelivery
from streams.kafka.offsets import RecordBatch

Key = bytes | None


class KeyHolds:
    """Track which batch holds which keys until its retry, and the later deliveries of those keys in order.

    Deliveries of a held key wait in memory, and their offsets are not committed. Those of keys that may wait for long
    are excluded from the budget of fetched bytes, so that other keys are still fetched. `room` is the maximum of
    excluded bytes, and `full` says whether it is reached.
    """

    def __init__(self, limits: Limits, group_of: Callable[[PendingDelivery], Hashable], room: int) -> None:
        self._limits, self._group_of, self._room = limits, group_of, room
        self._holders: dict[Key, Batch] = {}
        self._behind: dict[Key, deque[PendingDelivery]] = {}
        self._outlasted: dict[Key, float] = {}
        self._excluded: dict[int, tuple[PendingDelivery, int]] = {}
        self._excluded_bytes = 0

    def __len__(self) -> int:
        return len(self._holders)

    @property
    def full(self) -> bool:
        """Return whether the excluded deliveries use all of the room."""
        if self._excluded_bytes < self._room:
            return False
        self._excluded = {
            key: (pending, size)
            for key, (pending, size) in self._excluded.items()
            if not (pending.settled or pending.fetched.dropped)
        }
        self._excluded_bytes = sum(size for _, size in self._excluded.values())
        return self._excluded_bytes >= self._room

    @property
    def waiting(self) -> Iterable[PendingDelivery]:
        """Return the deliveries that wait behind another of their key."""
        return chain.from_iterable(self._behind.values())

    def divert(self, deliveries: list[PendingDelivery], batch: Batch) -> list[PendingDelivery]:
        """Return the deliveries that may be sent with `batch`; those whose key another batch holds wait behind it."""
        if not self._holders:
            return deliveries
        free = []
        for pending in deliveries:
            holder = self._holders.get(pending.key)
            if holder is None or holder is batch:
                free.append(pending)
            else:
                self._behind[pending.key].append(pending)
                self._exclude(pending, holder)
        return free

    def hold(self, batch: Batch) -> None:
        """Hold the keys of a batch that failed."""
        for pending in batch.deliveries:
            self._holders[pending.key] = batch
            self._behind.setdefault(pending.key, deque())
            self._exclude(pending, batch)

    def push_back(self, deliveries: list[PendingDelivery]) -> None:
        """Put deliveries of a held key in front of those that wait behind it."""
        for pending in reversed(deliveries):
            self._behind[pending.key].appendleft(pending)

    def outlast(self, key: Key, spent: float) -> None:
        """Record that a delivery of a held key failed for `spent` seconds; those behind it have waited as long."""
        self._outlasted[key] = spent

    def release(self, keys: Iterable[Key], batch: Batch) -> list[Batch]:
        """Release the keys that `batch` holds; return batches of the deliveries behind it, which hold them now."""
        batches: dict[Hashable, Batch] = {}
        made: list[Batch] = []
        for key in keys:
            if self._holders.get(key) is not batch:
                continue
            behind = self._behind[key]
            while behind and behind[0].fetched.dropped:
                behind.popleft()
            if not behind:
                self._outlasted.pop(key, None)
                del self._holders[key], self._behind[key]
                continue
            group = self._group_of(behind[0])
            spent = self._outlasted.pop(key, 0.0)
            after = None if spent else batches.get(group)
            if after is None or not self._fits(after, behind[0]):
                failures = replace(NO_FAILURES, own=STRIKES if spent else 0, spent=spent)
                after = Batch((batch.queue, group), failures=failures, queued=True)
                made.append(after)
                if not spent:
                    batches[group] = after
            while (
                behind and (not after.deliveries or self._fits(after, behind[0])) and self._group_of(behind[0]) == group
            ):
                after.size += behind[0].size
                after.deliveries.append(behind.popleft())
            self._holders[key] = after
        return made

    def clear(self) -> None:
        """Discard everything; the partitions are about to be revoked."""
        self._holders.clear()
        self._behind.clear()
        self._outlasted.clear()
        self._excluded.clear()
        self._excluded_bytes = 0

    def _fits(self, batch: Batch, pending: PendingDelivery) -> bool:
        return len(batch.deliveries) < self._limits.items and batch.size + pending.size <= self._limits.bytes

    def _exclude(self, pending: PendingDelivery, holder: Batch) -> None:
        """Exclude a delivery from the budget of bytes if it may wait for long."""
        fetched, failures = pending.fetched, holder.failures
        assert isinstance(fetched, RecordBatch)
        waits_long = failures.own >= STRIKES or failures.shared >= PROBES
        if waits_long and id(pending) not in self._excluded and not fetched.dropped and not self.full:
            size = fetched.exclude_record(pending.index)
            self._excluded[id(pending)] = pending, size
            self._excluded_bytes += size
