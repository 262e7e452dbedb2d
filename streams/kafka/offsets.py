"""Track which offsets may be committed."""

import asyncio
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from time import monotonic
from typing import Any, Protocol
from weakref import WeakSet

from streams.kafka.commit_metadata import OffsetRange, merge_ranges

TP = tuple[str, int]


class Commits(Protocol):
    """Tracks which offsets may be committed."""

    def partitions(self) -> list[TP]:
        """Return the partitions with any tracked offsets."""

    def committable(self, tp: TP) -> int | None:
        """Return the offset before which all records of a partition are finished, or None if none are tracked."""

    def finished_above(self, tp: TP, offset: int) -> list[OffsetRange]:
        """Return the ranges of offsets from `offset` on that are finished although earlier ones are not."""


class DisorderError(Exception):
    """A batch begins before the end of the previous one."""


RECORD_BYTES = 2000
"""Bytes of memory that a fetched record needs in addition to twice its content, which is decoded."""


def memory_of(record: Any) -> int:
    """Estimate the bytes of memory that a fetched record needs until it is finished."""
    return 2 * len(record.value or b"") + len(record.key or b"") + RECORD_BYTES


class MemoryBudget:
    """The bytes of unfinished records that all pipelines of a process may hold, in equal shares."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._members: WeakSet[OffsetTracker] = WeakSet()

    def add(self, member: "OffsetTracker") -> None:
        """Give a pipeline a share, as long as it exists."""
        self._members.add(member)

    @property
    def share(self) -> int:
        """Return the bytes that each pipeline may hold."""
        return self.total // max(1, len(self._members))


class RecordBatch:
    """Consecutive records of one partition that are fetched and processed together.

    `end` is the offset after the batch. There may be offsets without a record between its last record and `end`.

    Records are finished one by one, by their index, or all at once, in any order; the commit waits for the first that
    is not finished. A record that is finished alone leaves memory, and is None in `records`. When the partition is
    revoked, the batch is dropped, and finishing it has no effect.
    """

    __slots__ = ("_done", "_left", "_low", "_progress", "_waits", "begun", "dropped", "end", "records", "size", "tp")

    def __init__(self, progress: "OffsetTracker", tp: TP, records: Sequence[Any], size: int, end: int) -> None:
        self.tp = tp
        self.records = list(records)
        self.size = size
        self.end = end
        self.begun = False
        self.dropped = False
        self._progress = progress
        self._done = bytearray(len(records))
        self._left = len(records)
        self._low = 0
        self._waits: set[int] = set()

    def begin(self) -> bool:
        """Mark the batch as in progress; return False if its partition was revoked and it must not be processed."""
        self.begun = not self.dropped
        return self.begun

    def truncate(self, index: int) -> None:
        """Remove the records from `index` on, which will be fetched again, and all later batches of the partition.

        None of them may have been processed.
        """
        self._progress.truncate(self, index)

    def cut(self, index: int) -> int:
        """Remove the records from `index` on; return the bytes that they used. Called by the tracker."""
        removed = sum(map(self._counted, range(index, len(self.records))))
        self.end = self.records[index].offset
        del self.records[index:], self._done[index:]
        self._left = self._done.count(0)
        return removed

    def exclude_from_budget(self) -> None:
        """Stop counting its bytes: its records wait for a retry time, and other partitions must still be fetched."""
        self._progress.exclude_from_budget(self)

    def exclude_record(self, index: int) -> int:
        """Stop counting the bytes of one record, because it waits behind another; return how many they are."""
        size = self._counted(index)
        self._progress.free(self, size)
        self._waits.add(index)
        return size

    def _counted(self, index: int) -> int:
        """Return the bytes that a record counts for, 0 if the batch is excluded."""
        record = self.records[index]
        return 0 if record is None or index in self._waits else memory_of(record)

    @property
    def finished(self) -> bool:
        """Return whether every record is finished."""
        return not self._left

    @property
    def committable(self) -> int:
        """Return the offset of the first record that is not finished, or the end."""
        return int(self.records[self._low].offset) if self._left else self.end

    def unfinished(self) -> Iterator[OffsetRange]:
        """Yield the ranges of offsets whose records are not finished, in order.

        An offset without a record is in no range: it was skipped because it was finished before, or it is a gap.
        """
        low = self._low if self._left else -1
        while low >= 0:
            high = self._done.find(1, low)
            yield from self._stretches(low, len(self.records) if high < 0 else high)
            low = -1 if high < 0 else self._done.find(0, high)

    def _stretches(self, low: int, high: int) -> Iterator[OffsetRange]:
        """Yield the ranges of consecutive offsets among some of the records."""
        records = self.records
        while low < high:
            first = records[low].offset
            # Offsets ascend, so the stretch ends where an offset is further from the first than its index.
            end = bisect_left(range(low, high), True, key=lambda at: records[at].offset - first > at - low) + low
            yield first, records[end - 1].offset + 1
            low = end

    def finish(self) -> None:
        """Finish all records: every record written because of them is acknowledged."""
        self._left = 0
        self.records = []  # not needed, although it may be behind a batch that is not finished
        self._progress.finished(self)

    def finish_record(self, index: int) -> None:
        """Finish one record: every record written because of it is acknowledged."""
        if self._done[index] or not self._left:
            return
        self._done[index] = 1
        self._left -= 1
        self._progress.free(self, self._counted(index))
        self.records[index] = None
        if not self._left:
            self._progress.finished(self)
            return
        if index == self._low:
            self._low = self._done.index(0, index)
            self._progress.moved_at = monotonic()


class OffsetTracker:
    """Track the record batches of one consumer in order, and the bytes that are fetched but not finished."""

    def __init__(self, budget: int = 16 * 1024 * 1024, memory: MemoryBudget | None = None) -> None:
        self._budget, self._memory = budget, memory
        if memory is not None:
            memory.add(self)
        self.moved_at = monotonic()
        self._held = 0
        self._batches: dict[TP, deque[RecordBatch]] = {}
        self._committable: dict[TP, int] = {}
        self._restored: dict[TP, list[OffsetRange]] = {}
        self._changed = asyncio.Event()

    def open(self, tp: TP, records: Sequence[Any], end: int | None = None) -> RecordBatch:
        """Create a batch of fetched records, in the order of offsets. Without `end` it ends after its last record.

        Raises DisorderError if the batch begins before the end of the previous one.
        """
        batches = self._batches.setdefault(tp, deque())
        due = batches[-1].end if batches else self._committable.get(tp, 0)
        if records[0].offset < due:
            raise DisorderError(f"{tp[0]}:{tp[1]}: a batch begins at offset {records[0].offset}, but {due} comes next")
        size = sum(map(memory_of, records))
        batch = RecordBatch(self, tp, records, size, records[-1].offset + 1 if end is None else end)
        batches.append(batch)
        self._held += size
        return batch

    def skip(self, tp: TP, end: int) -> None:
        """Record that a partition has no more records before offset `end`."""
        batches = self._batches.setdefault(tp, deque())
        if batches:
            batches[-1].end = end
        else:
            self._committable[tp] = end

    def restore(self, tp: TP, ranges: Sequence[OffsetRange]) -> None:
        """Set the offsets of a newly assigned partition that were finished before; their records are skipped."""
        self._restored[tp] = list(ranges)

    def restored_before(self, tp: TP, offset: int) -> list[OffsetRange]:
        """Return the ranges before an offset that were finished before the partition was assigned."""
        return [(start, min(end, offset)) for start, end in self._restored.get(tp, ()) if start < offset]

    def without_finished(self, tp: TP, records: Sequence[Any]) -> Sequence[Any]:
        """Return fetched records without those that were finished before the partition was assigned."""
        ranges = self._restored.get(tp)
        if not ranges or not records:
            return records
        left: list[Any] = []
        at = 0
        for record in records:
            while at < len(ranges) and ranges[at][1] <= record.offset:
                at += 1
            if at == len(ranges) or record.offset < ranges[at][0]:
                left.append(record)
        del ranges[:at]
        return left

    def finished_above(self, tp: TP, offset: int) -> list[OffsetRange]:
        """Return the ranges of offsets from `offset` on that are finished although earlier ones are not."""
        ranges: list[OffsetRange] = []
        at = offset
        for batch in self._batches.get(tp, ()):
            for start, end in batch.unfinished():
                ranges.append((at, start))
                at = end
            ranges.append((at, batch.end))
            at = max(at, batch.end)
        ranges += [(max(start, at), end) for start, end in self._restored.get(tp, ())]
        return merge_ranges(ranges)

    def finished(self, batch: RecordBatch) -> None:
        """Free a batch's bytes, and advance the committable offset; called by the batch."""
        if batch.dropped:
            return
        self.moved_at = monotonic()
        self._held -= batch.size
        batch.size = 0
        batches = self._batches[batch.tp]
        while batches and batches[0].finished:
            self._committable[batch.tp] = batches.popleft().end
        self._changed.set()

    @property
    def budget(self) -> int:
        """Return the limit for bytes of unfinished records, above which fetching stops."""
        return self._budget if self._memory is None else min(self._budget, self._memory.share)

    def free(self, batch: RecordBatch, size: int) -> None:
        """Give back the bytes of one record that is finished or waits; called by the batch."""
        if batch.dropped or not batch.size:
            return
        was_full = self._held >= self.budget
        batch.size -= size
        self._held -= size
        if was_full and self._held < self.budget:
            self._changed.set()

    def truncate(self, batch: RecordBatch, index: int) -> None:
        """Remove the records of a batch from `index` on, and the partition's later batches; called by the batch."""
        batches = self._batches.get(batch.tp)
        if batch.dropped or not batches:
            return
        offset = batch.records[index].offset
        finished = [(max(start, offset), end) for start, end in self.finished_above(batch.tp, offset) if end > offset]
        while batches[-1] is not batch:
            later = batches.pop()
            later.dropped = True
            self._held -= later.size
        size = batch.cut(index)
        if batch.size:
            batch.size -= size
            self._held -= size
        self._restored[batch.tp] = finished
        if batch.finished:
            self.finished(batch)
        self._changed.set()

    def exclude_from_budget(self, batch: RecordBatch) -> None:
        """Stop counting the bytes of an unfinished batch; called by the batch."""
        self._held -= batch.size
        batch.size = 0
        self._changed.set()

    def partitions(self) -> list[TP]:
        """Return the partitions with any batch."""
        return list(self._batches)

    def committable(self, tp: TP) -> int | None:
        """Return the offset before which all records of a partition are finished, or None if none were fetched."""
        batches = self._batches.get(tp)
        return batches[0].committable if batches else self._committable.get(tp)

    def drop(self, tps: Iterable[TP]) -> None:
        """Discard the batches of revoked partitions, finished or not."""
        for tp in tps:
            for batch in self._batches.pop(tp, ()):
                batch.dropped = True
                self._held -= batch.size
            self._committable.pop(tp, None)
            self._restored.pop(tp, None)
        self.moved_at = monotonic()
        self._changed.set()

    @property
    def held(self) -> int:
        """Return the bytes of fetched records that are not finished."""
        return self._held

    @property
    def begun(self) -> int:
        """Return the number of batches in progress."""
        return sum(batch.begun and not batch.finished for batches in self._batches.values() for batch in batches)

    async def wait_for_room(self, timeout: float) -> bool:
        """Wait until the budget has room, at most `timeout` seconds; return whether it has."""
        return await self._wait(lambda: self._held < self.budget, timeout)

    async def wait_until_settled(self, timeout: float) -> bool:
        """Wait until no batch is in progress, at most `timeout` seconds; return whether none is."""
        return await self._wait(lambda: not self.begun, timeout)

    async def _wait(self, condition: Callable[[], bool], timeout: float) -> bool:
        deadline = monotonic() + timeout
        while not condition():
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), deadline - monotonic())
            except TimeoutError:
                return condition()
        return True
