"""The Faust transport: hands an agent a whole fetched run of one partition's records as one Faust event.

Faust costs 0.2 to 0.3 ms for each event that an agent sees, and acknowledges an event whose agent raised; both go away
when the event is a run and the commit comes from `Progress`. What this overrides is private to faust-streaming 0.15.3;
tests/streams/test_transport.py holds what it relies on.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator
from time import monotonic
from typing import Any, cast

from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from streams import connections
from streams.progress import Commits, Progress

connections.mend()

SHAVED = 2.0
"""Seconds by which waiting for begun runs stays under what Kafka or a supervisor allows."""


class Consumer(driver.Consumer):
    """A consumer that yields runs, and commits what the transport's `commits` says."""

    transport: "Transport"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.progress = self.transport.progress
        self._stop_deadline: float | None = None
        self._resting: dict[TP, asyncio.TimerHandle] = {}

    def begun_at(self, tp: TP) -> int | None:
        """The offset that reading a partition begins at, as it was committed; None where nothing was."""
        return self._read_offset.get(tp)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:
        """Yield each partition's fetched records as one message, its value the Run. Waits while the budget is full."""
        if not await self.progress.wait_for_room(timeout):
            return
        records, active = await self._wait_next_records(timeout)
        generation = self.app.consumer_generation_id
        if records is None or self.should_stop:
            return
        if not self.flow_active:
            try:
                await self.perform_seek()
            except Exception as error:  # noqa: BLE001  # in a rebalance it raises, and uncaught that ends the worker
                self.log.warning("could not seek while no partition is assigned: %s", type(error).__name__)
            return
        for tp, fetched in records.items():
            if not self.flow_active or self.app.consumer_generation_id != generation:
                return
            if fetched and (active is None or tp in active):
                yield tp, self._message_of(tp, fetched)

    def _message_of(self, tp: TP, fetched: list[Any]) -> ConsumerMessage:
        first = fetched[0]
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            first.offset,
            (first.timestamp or 0) / 1000,
            first.timestamp_type,
            [],
            None,
            cast("bytes", self.progress.open(tp, fetched)),  # with the codec `raw`, Faust passes any value on
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
            self._stop_deadline = self._stop_deadline or monotonic() + self.transport.grace - SHAVED
            patience = self._stop_deadline - monotonic()
        else:
            patience = self.app.conf.broker_rebalance_timeout - SHAVED
        await self.transport.settle(max(0.0, patience))
        await self.commit()

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Let Faust wait and commit, then forget the partitions' runs."""
        await super().on_partitions_revoked(revoked)
        self._forget_rests(revoked)
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
    """The transport of an app whose agent works on runs.

    `grace` is how many seconds a stop may take. `settle` brings begun runs to an end within as many seconds as it is
    given, since the partitions are about to go; `on_revoked` hears which have gone. `commits` says what may be
    committed: what `progress` does, unless what finished runs led to is kept elsewhere for a while.
    """

    Consumer = Consumer

    def __init__(self, *args: Any, progress: Progress, grace: float = 25.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.progress = progress
        self.commits: Commits = progress
        self.grace = grace
        self.settle: Callable[[float], Awaitable[object]] = progress.wait_until_settled
        self.on_revoked: Callable[[Iterable[TP]], object] = lambda _: None
