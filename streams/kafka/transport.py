"""Pass a whole fetched batch of a partition's records to a Faust agent as one event.

Faust costs 0.2 to 0.3 ms for each event that an agent sees, and acknowledges an event whose agent raised; both go away
when the event is a run and the commit comes from `OffsetTracker`. What this overrides is private to faust-streaming
0.15.3; tests/streams/kafka/test_transport.py holds what it relies on.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator
from time import monotonic
from typing import Any, cast

import structlog
from aiokafka.errors import KafkaError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from streams.kafka import aiokafka_patch
from streams.kafka.consumer_thread import ConsumerThread, FetchedRecords
from streams.kafka.offsets import Commits, OffsetTracker
from streams.observability.metrics import RECORDS_LOST

aiokafka_patch.apply()

log = structlog.get_logger()

REBALANCE_MARGIN_SECONDS = 2.0
"""Seconds by which waiting for begun runs stays under what Kafka or a supervisor allows."""


class PositionError(Exception):
    """A partition ends before the offset that comes next: its topic was deleted and created again, or lost its end."""


class Consumer(driver.Consumer):
    """A consumer that yields runs, and commits what the transport's `commits` says.

    It decides itself where each partition goes on. `_next` holds the offset that the partition's next run must begin
    at; it is there from the seek after an assignment until the partition is revoked. Records that were fetched and not
    handed out, because of a rebalance or because their partition rests, are fetched again.
    """

    transport: "Transport"
    _thread: ConsumerThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.progress = self.transport.progress
        self._stop_deadline: float | None = None
        self._resting: dict[TP, asyncio.TimerHandle] = {}
        self._begun_at: dict[TP, int] = {}
        self._next: dict[TP, int] = {}
        self._refetched: dict[TP, int] = {}

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def begun_at(self, tp: TP) -> int | None:
        """Return the offset at which reading a partition began; None before the first seek."""
        return self._begun_at.get(tp)

    async def perform_seek(self) -> None:
        """Seek every assigned partition to its committed offset, or to its beginning; Faust calls it on assignment."""
        for tp, offset in (await self._thread.seek_to_committed()).items():
            self._begun_at[tp] = self._next[tp] = offset
            self._refetched.pop(tp, None)
            self._committed_offset[tp] = offset or None

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:
        """Yield each partition's fetched records as one message, its value the Run. Waits while the budget is full."""
        if not await self.progress.wait_for_room(timeout):
            return
        fetched, _ = await self._wait_next_records(timeout)
        if not fetched or self.should_stop:
            return
        again: set[TP] = set()
        # A fetch that began before a rebalance may end after it, so nothing counts but the offsets.
        for tp, records in cast("dict[TP, FetchedRecords]", fetched).items():
            if tp not in self._next:
                continue
            if not self.flow_active or tp not in self._active_partitions or not await self._follows(tp, records):
                again.add(tp)
                continue
            self._next[tp] = records.end
            if not records:
                self.progress.skip(tp, records.end)
                continue
            # Faust drops a message whose offset is lower than what it read before.
            self._read_offset[tp] = None
            yield tp, self._message_of(tp, records)
        offsets = {tp: self._next[tp] for tp in again if tp in self._next}
        if offsets:
            await self._thread.seek_to(offsets)

    async def _follows(self, tp: TP, records: FetchedRecords) -> bool:
        """Check that fetched records begin at the offset that comes next; if not, they must be fetched again.

        If a second fetch does not begin there either, Kafka is asked for its bounds. Records that it has removed are
        reported as lost. Raises PositionError.
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
                f"{tp.topic}:{tp.partition} ends at offset {end}, but offset {due} comes next: the topic was deleted"
                f" and created again, or lost its end; reset the offsets of group {self.app.conf.id}"
            )
        if begin <= due:
            return False
        log.error(
            "records were removed before they were read: the topic's retention is shorter than the lag",
            topic=tp.topic, partition=tp.partition, first=due, last=begin - 1,
        )  # fmt: skip
        RECORDS_LOST.labels(tp.topic).inc(begin - due)
        self._next[tp] = begin
        self.progress.skip(tp, begin)
        return records.start == begin

    def _message_of(self, tp: TP, records: FetchedRecords) -> ConsumerMessage:
        first = records[0]
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            first.offset,
            (first.timestamp or 0) / 1000,
            first.timestamp_type,
            [],
            None,
            cast("bytes", self.progress.open(tp, records, records.end)),  # the codec `raw` passes any value on
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

    async def wait_empty(self) -> None:
        """Wait for the begun runs while the rebalance or the stop leaves time, then commit. Faust's waits for ever."""
        if self.app.should_stop or self.should_stop:
            self._stop_deadline = self._stop_deadline or monotonic() + self.transport.grace - REBALANCE_MARGIN_SECONDS
            patience = self._stop_deadline - monotonic()
        else:
            patience = self.app.conf.broker_rebalance_timeout - REBALANCE_MARGIN_SECONDS
        await self.transport.settle(max(0.0, patience))
        await self.commit()

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Let Faust wait and commit, then forget the partitions' runs."""
        await super().on_partitions_revoked(revoked)
        self._forget_rests(revoked)
        for tp in revoked:
            for offsets in (self._next, self._refetched, self._begun_at):
                offsets.pop(tp, None)
        self.progress.drop(revoked)
        self.transport.on_revoked(revoked)

    def rest(self, tp: TP, seconds: float) -> None:
        """Fetch nothing more of a partition for so long."""
        timer = self._resting.pop(tp, None)
        if timer:
            timer.cancel()
        self.pause_partitions([tp])
        self._resting[tp] = asyncio.get_running_loop().call_later(seconds, self._end_rest, tp)

    @property
    def resting(self) -> Collection[TP]:
        """The partitions that rest."""
        return self._resting.keys()

    def _end_rest(self, tp: TP) -> None:
        del self._resting[tp]
        self.resume_partitions([tp])

    def _forget_rests(self, revoked: Iterable[TP]) -> None:
        for tp in revoked:
            timer = self._resting.pop(tp, None)
            if timer:
                timer.cancel()
        # Faust remembers what is paused beyond the partition's leaving.
        self._paused_partitions.difference_update(revoked)

    def on_buffer_full(self, tp: TP) -> None:
        """Nothing: Faust's buffer counts messages, which here are runs; the budget of `progress` bounds memory."""

    def on_buffer_drop(self, tp: TP) -> None:
        """Nothing, as on_buffer_full."""

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Nothing: Faust's warnings speak of acks, which do not count here; the worker's watchdog does this."""


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
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.progress, self.grace, self.on_revoked = progress, grace, on_revoked
        self.commits = progress if commits is None else commits
        self.settle = progress.wait_until_settled if settle is None else settle
