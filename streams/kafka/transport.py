"""Pass a whole fetched batch of a partition's records to a Faust agent as one event.

Faust costs 0.2 to 0.3 ms for each event that an agent receives, and acknowledges an event whose agent raised. Both are
avoided if the event is a batch, and `OffsetTracker` determines the offsets to commit. This overrides private parts of
faust-streaming 0.15.3; tests/streams/kafka/test_transport.py tests the behaviour that it relies on.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from time import monotonic
from typing import Any, cast

import structlog
from aiokafka.errors import KafkaError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from streams.kafka import aiokafka_patch
from streams.kafka.commit_metadata import (
    MAX_METADATA_CHARACTERS,
    PROCESS_BUDGET,
    CommitBudget,
    decode_finished,
    encode_finished,
)
from streams.kafka.consumer_thread import Committed, ConsumerThread, FetchedRecords, MetadataRefusedError
from streams.kafka.gaps import Gap
from streams.kafka.offsets import Commits, OffsetTracker, RecordBatch
from streams.observability.metrics import COMMITS_CUT

aiokafka_patch.apply()

log = structlog.get_logger()

REBALANCE_MARGIN_SECONDS = 2.0
"""Seconds that are left of a rebalance or stop after waiting for batches in progress."""


class PositionError(Exception):
    """A partition ends before the next offset to read: its topic was created again, or lost its last records."""


class Consumer(driver.Consumer):
    """A consumer that yields batches, and commits the offsets that the transport's `commits` allows.

    `_next` has the offset at which each partition's next batch must begin, from the seek after an assignment until the
    partition is revoked. Records that were fetched but not yielded, because of a rebalance or because their partition
    is paused, are fetched again.
    """

    transport: "Transport"
    _thread: ConsumerThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.progress = self.transport.progress
        self._stop_deadline: float | None = None
        self._pauses: dict[TP, asyncio.TimerHandle] = {}
        self._begun_at: dict[TP, int] = {}
        self._finished_to: dict[TP, int] = {}
        self._next: dict[TP, int] = {}
        self._refetched: dict[TP, int] = {}
        self._committed: dict[TP, Committed] = {}
        self._due: dict[TP, Committed] = {}
        self._commit_at: dict[TP, float] = {}
        self._metadata_limit = MAX_METADATA_CHARACTERS
        self._is_leaving = False
        self._given_back: set[TP] = set()
        self._overtaken: dict[TP, int] = {}

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def begun_at(self, tp: TP) -> int | None:
        """Return the offset at which reading a partition began, or None before the first seek."""
        return self._begun_at.get(tp)

    @property
    def finished_to(self) -> Mapping[TP, int]:
        """Return for each assigned partition the offset after the last record finished before the assignment."""
        return self._finished_to

    async def perform_seek(self) -> None:
        """Seek every assigned partition to its committed offset, or to its beginning; Faust calls it on assignment.

        Records above it that the commit's metadata lists as finished will be skipped.
        """
        found = await self._thread.seek_all()
        self._overtaken = {tp: begin for tp, (committed, begin) in found.items() if committed.offset < begin}
        for tp, (committed, _) in found.items():
            self._begun_at[tp] = self._next[tp] = committed.offset
            self._refetched.pop(tp, None)
            self._committed[tp] = committed
            finished = decode_finished(committed.offset, committed.metadata)
            self._finished_to[tp] = finished[-1][1] if finished else committed.offset
            self.progress.restore(tp, finished)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:
        """Yield each partition's fetched records as one message with a RecordBatch. Waits while the budget is full."""
        if not await self.progress.wait_for_room(timeout):
            return
        if self._given_back:
            given_back, self._given_back = self._given_back, set()
            await self._seek_next(given_back)
        while self._overtaken:
            tp, begin = self._overtaken.popitem()
            if tp in self._next and await self._pass_gap(tp, begin):
                await self._seek_next([tp])
        fetched, _ = await self._wait_next_records(timeout)
        if not fetched or self.should_stop:
            return
        again: set[TP] = set()
        # A fetch that began before a rebalance may end after it, so only the offsets are reliable.
        for tp, records in cast("dict[TP, FetchedRecords]", fetched).items():
            if tp not in self._next:
                continue
            if not self.flow_active or tp not in self._active_partitions or not await self._follows(tp, records):
                again.add(tp)
                continue
            self._next[tp] = records.end
            unfinished = self.progress.without_finished(tp, records)
            if not unfinished:
                self.progress.skip(tp, records.end)
                continue
            # Faust drops a message whose offset is lower than the last one.
            self._read_offset[tp] = None
            yield tp, self._message_of(tp, unfinished, records.end)
        await self._seek_next(again)

    async def _seek_next(self, tps: Iterable[TP]) -> None:
        """Seek partitions to their next offset to read, unless they were revoked."""
        offsets = {tp: self._next[tp] for tp in tps if tp in self._next}
        if offsets:
            await self._thread.seek_to(offsets)

    async def _follows(self, tp: TP, records: FetchedRecords) -> bool:
        """Check that fetched records begin at the next offset to read; if not, they must be fetched again.

        If a second fetch does not begin there either, the partition's bounds are requested from Kafka, and removed
        records are skipped. Raises PositionError.
        """
        due = self._next[tp]
        if records.start == due:
            return True
        if self._refetched.get(tp) != due:
            self._refetched[tp] = due
            return False
        try:
            begin, end = await self._thread.bounds(tp)
        except KafkaError:
            return False
        if self._next.get(tp) != due:
            return False
        if end < due:
            raise PositionError(
                f"{tp.topic}:{tp.partition} ends at offset {end}, but the next offset to read is {due}: the topic was"
                f" deleted and created again, or lost records; reset the offsets of group {self.app.conf.id}"
            )
        if begin <= due:
            return False
        return await self._pass_gap(tp, begin) and records.start == begin

    async def _pass_gap(self, tp: TP, begin: int) -> bool:
        """Record that Kafka has no record of a partition before `begin`, and continue there.

        Returns False if the partition was reassigned meanwhile.
        """
        due = self._next[tp]
        await self.transport.on_gap(Gap(*tp, due, begin, self.progress.restored_before(tp, begin)))
        if self._next.get(tp) != due:
            return False
        self._next[tp] = begin
        self.progress.skip(tp, begin)
        return True

    def _message_of(self, tp: TP, records: Sequence[Any], end: int) -> ConsumerMessage:
        first = records[0]
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            first.offset,
            (first.timestamp or 0) / 1000,
            first.timestamp_type,
            [],
            None,
            cast("bytes", self.progress.open(tp, records, end)),  # the codec `raw` passes any value
            None,
            tp=tp,
            generation_id=self.app.consumer_generation_id,
        )

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return (
            TP(*tp) for tp in self.transport.commits.partitions() if topics is None or tp in topics or tp[0] in topics
        )

    def _new_offset(self, tp: TP) -> int | None:
        return self.transport.commits.committable(tp)

    def _filter_committable_offsets(self, tps: Iterable[TP]) -> dict[TP, int]:
        """Return the partitions to commit: those whose offset or metadata changed, if the budget allows."""
        due: dict[TP, int] = {}
        now = monotonic()
        for tp in tps:
            if now < self._commit_at.get(tp, 0.0) and not self._is_leaving:
                continue
            position, whole = self._position_to_commit(tp)
            if position is not None and position != self._committed.get(tp):
                due[tp], self._due[tp] = position.offset, position
                self._commit_at[tp] = self.transport.commit_budget.take(position.metadata)
                if not whole:
                    COMMITS_CUT.labels(tp.topic).inc()
        return due

    def _position_to_commit(self, tp: TP) -> tuple[Committed | None, bool]:
        """Return the offset to commit with its metadata, and whether the metadata has all finished offsets.

        The offset is None if it is not known, or before the committed one.
        """
        offset = self._new_offset(tp)
        last = self._committed.get(tp)
        if offset is None or (last is not None and offset < last.offset):
            return None, True
        finished = self.transport.commits.finished_above(tp, offset)
        metadata, whole = encode_finished(offset, finished, self._metadata_limit)
        return Committed(offset, metadata), whole

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Commit offsets with their metadata."""
        positions = {tp: self._due[tp] for tp in offsets}
        try:
            did_commit = await self._thread.commit_all(positions)
        except MetadataRefusedError:
            self._metadata_limit //= 2
            log.warning(
                "Kafka allows less metadata in a commit; some events may be repeated after a restart",
                group=self.app.conf.id, characters=self._metadata_limit, setting="offset.metadata.max.bytes",
            )  # fmt: skip
            positions = {tp: Committed(position.offset) for tp, position in positions.items()}
            did_commit = await self._thread.commit_all(positions)
        if did_commit:
            self._committed.update(positions)
        return did_commit

    async def wait_empty(self) -> None:
        """Wait for batches in progress within the time limit, then commit; Faust's own method has no limit."""
        if self.app.should_stop or self.should_stop:
            self._stop_deadline = self._stop_deadline or monotonic() + self.transport.grace - REBALANCE_MARGIN_SECONDS
            seconds = self._stop_deadline - monotonic()
        else:
            seconds = self.app.conf.broker_rebalance_timeout - REBALANCE_MARGIN_SECONDS
        await self.transport.settle(max(0.0, seconds))
        # Faust does not commit if another commit is under way, which may lack what has finished since.
        await self.maybe_wait_for_commit_to_finish()
        self._is_leaving = True
        try:
            await self.commit()
        finally:
            self._is_leaving = False

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Let Faust seek and resume."""
        self._log_partitions("partitions gained", assigned)
        await super().on_partitions_assigned(assigned, generation_id)

    def _log_partitions(self, event: str, parts: Iterable[TP]) -> None:
        numbers: dict[str, list[int]] = {}
        for tp in sorted(parts):
            numbers.setdefault(tp.topic, []).append(tp.partition)
        if numbers:
            log.info(event, group=self.app.conf.id, partitions=numbers)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Let Faust wait and commit, then discard the partitions' batches."""
        await super().on_partitions_revoked(revoked)
        self._log_partitions("partitions lost", revoked)
        self._discard_pauses(revoked)
        for tp in revoked:
            for kept in (
                self._next,
                self._refetched,
                self._begun_at,
                self._finished_to,
                self._committed,
                self._commit_at,
            ):
                kept.pop(tp, None)
            self._overtaken.pop(tp, None)
        self.progress.drop(revoked)
        self.transport.on_revoked(revoked)

    def give_back(self, batch: RecordBatch, index: int, seconds: float) -> None:
        """Return the records of a batch from `index` on, to be fetched again after a number of seconds.

        Only for the batch in progress: later batches of its partition are discarded, and fetched again as well.
        """
        if not batch.dropped:
            tp = TP(*batch.tp)
            self._next[tp] = batch.records[index].offset
            self._refetched.pop(tp, None)
            self._given_back.add(tp)
            batch.truncate(index)
            self.pause_for(tp, seconds)

    def pause_for(self, tp: TP, seconds: float) -> None:
        """Fetch no more records of a partition for a number of seconds."""
        timer = self._pauses.pop(tp, None)
        if timer:
            timer.cancel()
        self.pause_partitions([tp])
        self._pauses[tp] = asyncio.get_running_loop().call_later(seconds, self._end_pause, tp)

    @property
    def paused(self) -> Collection[TP]:
        """Return the partitions that are paused for a time."""
        return self._pauses.keys()

    def _end_pause(self, tp: TP) -> None:
        del self._pauses[tp]
        self.resume_partitions([tp])

    def _discard_pauses(self, revoked: Iterable[TP]) -> None:
        for tp in revoked:
            timer = self._pauses.pop(tp, None)
            if timer:
                timer.cancel()
        # Faust keeps partitions as paused after they are revoked.
        self._paused_partitions.difference_update(revoked)

    def on_buffer_full(self, tp: TP) -> None:
        """Do nothing: Faust's buffer counts messages, here batches; the budget of `progress` limits memory."""

    def on_buffer_drop(self, tp: TP) -> None:
        """Do nothing: Faust's buffer is not used as a limit; see `on_buffer_full`."""

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Do nothing: Faust's warnings are about acks, which are not used here; the worker has its own watchdog."""


async def _report_gap(gap: Gap) -> None:
    log.error("records were removed before they were read", **gap._asdict())


class Transport(driver.Transport):
    """The transport of an app whose agent works on batches of records.

    Args:
        args: Those of Faust's transport.
        progress: Tracks the batches.
        grace: Seconds that a stop may take.
        settle: Finishes the batches in progress within a number of seconds, because the partitions are about to be
            revoked; by default it waits for them.
        on_revoked: Called with the partitions that were revoked.
        commits: Which offsets may be committed; by default those of `progress`.
        commit_budget: Limits the bytes of commits; by default that of the process.
        on_gap: Called with records that Kafka removed before they were read. Once it has returned, they are skipped.
        kwargs: Those of Faust's transport.

    """

    Consumer = Consumer

    def __init__(
        self,
        *args: Any,
        progress: OffsetTracker,
        grace: float = 25.0,
        settle: Callable[[float], Awaitable[object]] | None = None,
        on_revoked: Callable[[Iterable[TP]], object] = lambda _: None,
        commits: Commits | None = None,
        commit_budget: CommitBudget = PROCESS_BUDGET,
        on_gap: Callable[[Gap], Awaitable[None]] = _report_gap,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.progress, self.grace, self.on_revoked, self.on_gap = progress, grace, on_revoked, on_gap
        self.commits = progress if commits is None else commits
        self.commit_budget = commit_budget
        self.settle = progress.wait_until_settled if settle is None else settle
