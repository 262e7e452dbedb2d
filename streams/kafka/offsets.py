"""Track which offsets may be committed."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from typing import Any, Protocol

TP = tuple[str, int]


class Commits(Protocol):
    """Says what may be committed."""

    def partitions(self) -> list[TP]:
        """The partitions of which anything is known."""

    def committable(self, tp: TP) -> int | None:
        """The offset up to which all of a partition is finished, None while nothing is known of it."""


class DisorderError(Exception):
    """A run begins before the end of the one opened before it."""


class RecordBatch:
    """Consecutive records of one partition that are fetched and processed together.

    `end` is the offset after it. Kafka may have nothing at the offsets between its last record and `end`.

    Each record is finished on its own, by its index, or all at once. What is finished out of order holds nothing up but
    the commit. A run whose partition was taken away is dropped: finishing it then changes nothing.
    """

    __slots__ = ("_done", "_left", "_low", "_progress", "begun", "dropped", "end", "records", "size", "tp")

    def __init__(self, progress: "OffsetTracker", tp: TP, records: Sequence[Any], size: int, end: int) -> None:
        self.tp = tp
        self.records = records
        self.size = size
        self.end = end
        self.begun = False
        self.dropped = False
        self._progress = progress
        self._done = bytearray(len(records))
        self._left = len(records)
        self._low = 0

    def begin(self) -> bool:
        """Take the run up; False when its partition is no longer ours, and it must be left alone."""
        self.begun = not self.dropped
        return self.begun

    def rest(self) -> None:
        """Its records wait for a time to come, and no more are fetched until then: leave room for other partitions."""
        self._progress.excuse(self)

    @property
    def finished(self) -> bool:
        """Whether every record is finished."""
        return not self._left

    @property
    def committable(self) -> int:
        """The offset of the first record that is not finished."""
        return int(self.records[self._low].offset) if self._left else self.end

    def finish(self) -> None:
        """All that the whole run led to is confirmed."""
        self._left = 0
        self._progress.finished(self)

    def finish_record(self, index: int) -> None:
        """All that one record led to is confirmed; to be called once for each."""
        if self._done[index] or not self._left:
            return
        self._done[index] = 1
        self._left -= 1
        if not self._left:
            self._progress.finished(self)
            return
        if index == self._low:
            self._low = self._done.index(0, index)
            self._progress.moved_at = monotonic()


class OffsetTracker:
    """Track the record batches of one consumer in order, and the bytes that are fetched but not finished."""

    def __init__(self, budget: int = 16 * 1024 * 1024) -> None:
        self.budget = budget
        self.moved_at = monotonic()
        self._held = 0
        self._runs: dict[TP, deque[RecordBatch]] = {}
        self._committable: dict[TP, int] = {}
        self._changed = asyncio.Event()

    def open(self, tp: TP, records: Sequence[Any], end: int | None = None) -> RecordBatch:
        """Open a run when it is handed out, in the order of offsets. Without `end` it ends after its last record.

        Raises DisorderError if the run begins before the end of the last one.
        """
        runs = self._runs.setdefault(tp, deque())
        due = runs[-1].end if runs else self._committable.get(tp, 0)
        if records[0].offset < due:
            raise DisorderError(f"{tp[0]}:{tp[1]}: a run begins at offset {records[0].offset}, but {due} comes next")
        size = sum(len(record.value or b"") + len(record.key or b"") + 100 for record in records)
        run = RecordBatch(self, tp, records, size, records[-1].offset + 1 if end is None else end)
        runs.append(run)
        self._held += size
        return run

    def skip(self, tp: TP, end: int) -> None:
        """Kafka has no more records of a partition before offset `end`."""
        runs = self._runs.setdefault(tp, deque())
        if runs:
            runs[-1].end = end
        else:
            self._committable[tp] = end

    def finished(self, run: RecordBatch) -> None:
        """Give the run's bytes back, and move what may be committed on; called by the run."""
        if run.dropped:
            return
        self.moved_at = monotonic()
        self._held -= run.size
        run.size = 0
        runs = self._runs[run.tp]
        while runs and runs[0].finished:
            self._committable[run.tp] = runs.popleft().end
        self._changed.set()

    def excuse(self, run: RecordBatch) -> None:
        """Give an unfinished run's bytes back; called by the run."""
        self._held -= run.size
        run.size = 0
        self._changed.set()

    def partitions(self) -> list[TP]:
        """The partitions of which anything was opened."""
        return list(self._runs)

    def committable(self, tp: TP) -> int | None:
        """The end of the lowest finished stretch of a partition, None while nothing is known of it. Changes nothing."""
        runs = self._runs.get(tp)
        return runs[0].committable if runs else self._committable.get(tp)

    def drop(self, tps: Iterable[TP]) -> None:
        """These partitions are no longer ours: forget their runs, finished or not."""
        for tp in tps:
            for run in self._runs.pop(tp, ()):
                run.dropped = True
                self._held -= run.size
            self._committable.pop(tp, None)
        self.moved_at = monotonic()
        self._changed.set()

    @property
    def held(self) -> int:
        """Bytes that are fetched and not finished."""
        return self._held

    @property
    def begun(self) -> int:
        """How many runs are begun and not finished."""
        return sum(run.begun and not run.finished for runs in self._runs.values() for run in runs)

    async def wait_for_room(self, timeout: float) -> bool:
        """Wait until the budget is not full, at most `timeout` seconds; whether it is not."""
        return await self._wait(lambda: self._held < self.budget, timeout)

    async def wait_until_settled(self, timeout: float) -> bool:
        """Wait until no begun run is unfinished, at most `timeout` seconds; whether that is so."""
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
