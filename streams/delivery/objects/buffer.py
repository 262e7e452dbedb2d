"""Group a partition's records into objects; only the records determine where an object ends."""

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import Any

from forwarders.api.contract import OffsetRange
from streams.delivery.objects.spool import Spool
from streams.kafka.offsets import TP
from streams.parsing.times import record_time


class ObjectBuffer:
    """One object; its records wait in `spool` until the object is stored. `cut` is its rotation key."""

    __slots__ = (
        "_left",
        "_objects",
        "count",
        "cut",
        "dropped",
        "first",
        "last",
        "size",
        "spool",
        "time",
        "tp",
    )

    def __init__(self, objects: "ObjectBuffers", tp: TP, spool: Spool, first: int, time: float, cut: Hashable) -> None:
        self.tp = tp
        self.spool = spool
        self.first = self.last = first
        self.time, self.cut = time, cut
        self.size = 0
        self.dropped = False
        self._objects = objects
        self.count = self._left = 0

    @property
    def offsets(self) -> OffsetRange:
        """Return the topic, partition and offsets of its records."""
        return OffsetRange(*self.tp, self.first, self.last)

    @property
    def finished(self) -> bool:
        """Return whether every record is finished."""
        return not self._left

    def put(self, record: Any, size: int) -> None:
        """Add a record of `size` bytes; raises OSError, and then it was not added."""
        self.spool.put(record)
        self.last = record.offset
        self.size += size
        self.count += 1
        self._left += 1

    def finish_record(self, _: int = 0) -> None:
        """Finish one record: everything that it caused is acknowledged."""
        self.finish_records(1)

    def finish_records(self, count: int) -> None:
        """Finish a number of records: everything that they caused is acknowledged."""
        self._left -= count
        if not self._left:
            self._objects.remove_finished(self.tp)


class ObjectBuffers:
    """The unwritten objects of one integration's partitions; the last object of each partition is open.

    An object ends when `cut(offset, time)` changes, or before it would exceed `most_bytes`. The time is the highest
    record time in Kafka so far in the object, in seconds since 1970, so that differing clocks do not cause small
    objects at each change of the interval. An object that begins at the same offset ends at the same offset, whenever
    its records arrive. A partition's offsets are committed up to the beginning of its first unfinished object.
    """

    def __init__(self, cut: Callable[[int, float], Hashable], most_bytes: int, folder: Path) -> None:
        self._cut, self._most_bytes, self._folder = cut, most_bytes, folder
        self._unfinished: dict[TP, deque[ObjectBuffer]] = {}

    def put(self, tp: TP, record: Any) -> ObjectBuffer | None:
        """Add a record to the open object of its partition; return the object that ended before it, if any.

        Raises OSError if the disk fails. The call may be repeated with the same record.
        """
        size = len(record.value or b"") + len(record.key or b"")
        # Independent of the current time: an object that is made again must end at the same record.
        time = record_time(record.timestamp, float)
        objects = self._unfinished.get(tp)
        if objects is None:
            objects = self._unfinished[tp] = deque()
        ended = None
        if objects:
            last = objects[-1]
            last.time = max(last.time, time)
            if last.size + size <= self._most_bytes and self._cut(record.offset, last.time) == last.cut:
                last.put(record, size)
                return None
            ended = last
        offset = record.offset
        begun = ObjectBuffer(self, tp, Spool(self._folder), offset, time, self._cut(offset, time))
        objects.append(begun)
        begun.put(record, size)
        return ended

    def remove_finished(self, tp: TP) -> None:
        """Remove finished objects, up to the first unfinished one; called by the objects."""
        objects = self._unfinished.get(tp, deque())
        while objects and objects[0].finished:
            objects.popleft()

    def partitions(self) -> list[TP]:
        """Return the partitions with any object."""
        return list(self._unfinished)

    def committable(self, tp: TP) -> int | None:
        """Return the first offset of a partition's first unfinished object, or None."""
        objects = self._unfinished.get(tp)
        return objects[0].first if objects else None

    def finished_above(self, _tp: TP, _offset: int) -> list[tuple[int, int]]:
        """Return nothing: an object that is written again replaces itself, since it has the same name and records."""
        return []

    def drop(self, tps: Iterable[TP]) -> None:
        """Discard the objects of revoked partitions, finished or not."""
        for tp in tps:
            for each in self._unfinished.pop(tp, ()):
                each.dropped = True
                each.spool.close()
