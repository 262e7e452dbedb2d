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

    A held key waits in memory, and the offset of its run is not committed. The runs of keys that may have to wait for
    long are taken out of the budget of fetched bytes, so that they do not stop the others, but no more than `room`
    bytes. `full` says when that is used up.
    """

    def __init__(self, limits: Limits, group_of: Callable[[PendingDelivery], Hashable], room: int) -> None:
        self._limits, self._group_of, self._room = limits, group_of, room
        self._holders: dict[Key, Batch] = {}
        self._behind: dict[Key, deque[PendingDelivery]] = {}
        self._outlasted: dict[Key, float] = {}
        self._runs: dict[RecordBatch, int] = {}

    def __len__(self) -> int:
        return len(self._holders)

    @property
    def full(self) -> bool:
        """Whether the runs of the deliveries that fail for themselves take all the room there is."""
        if sum(self._runs.values()) < self._room:
            return False
        self._runs = {run: size for run, size in self._runs.items() if not (run.finished or run.dropped)}
        return sum(self._runs.values()) >= self._room

    @property
    def waiting(self) -> Iterable[PendingDelivery]:
        """The deliveries that wait behind another of their key."""
        return chain.from_iterable(self._behind.values())

    def divert(self, deliveries: list[PendingDelivery], batch: Batch) -> list[PendingDelivery]:
        """Return the deliveries that may be sent with `batch`; those whose key another one holds wait behind it."""
        if not self._holders:
            return deliveries
        free = []
        for pending in deliveries:
            holder = self._holders.get(pending.key)
            if holder is None or holder is batch:
                free.append(pending)
            else:
                self._behind[pending.key].append(pending)
                self._excuse(pending, holder)
        return free

    def hold(self, batch: Batch) -> None:
        """Hold the keys of a batch that failed."""
        for pending in batch.deliveries:
            self._holders[pending.key] = batch
            self._behind.setdefault(pending.key, deque())
            self._excuse(pending, batch)

    def push_back(self, deliveries: list[PendingDelivery]) -> None:
        """Put deliveries of a held key in front of those that wait behind it."""
        for pending in reversed(deliveries):
            self._behind[pending.key].appendleft(pending)

    def outlast(self, key: Key, spent: float) -> None:
        """Note that a delivery of a held key failed for too long: what waits behind it has waited as long."""
        self._outlasted[key] = spent

    def release(self, keys: Iterable[Key], batch: Batch) -> list[Batch]:
        """Let go of the keys that `batch` still holds; returns batches of what waited behind, which hold them now."""
        batches: dict[Hashable, Batch] = {}
        made: list[Batch] = []
        for key in keys:
            if self._holders.get(key) is not batch:
                continue
            behind = self._behind[key]
            while behind and behind[0].run.dropped:
                behind.popleft()
            if not behind:
                self._outlasted.pop(key, None)
                del self._holders[key], self._behind[key]
                continue
            group = self._group_of(behind[0])
            spent = self._outlasted.pop(key, 0.0)
            after = None if spent else batches.get(group)
            if after is None or not self._fits(after, behind[0]):
                after = Batch((batch.queue, group))
                after.queued = True
                after.failures = replace(NO_FAILURES, own=STRIKES if spent else 0, spent=spent)
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
        """Discard everything; the partitions are revoked."""
        self._holders.clear()
        self._behind.clear()
        self._outlasted.clear()
        self._runs.clear()

    def _fits(self, batch: Batch, pending: PendingDelivery) -> bool:
        return len(batch.deliveries) < self._limits.items and batch.size + pending.size <= self._limits.bytes

    def _excuse(self, pending: PendingDelivery, holder: Batch) -> None:
        """Take a delivery's run out of the budget of bytes if it may have to wait for long."""
        run, failures = pending.run, holder.failures
        assert isinstance(run, RecordBatch)
        waits_long = failures.own >= STRIKES or failures.shared >= PROBES
        if waits_long and run not in self._runs and not run.dropped and not self.full:
            self._runs[run] = run.size
            run.rest()
