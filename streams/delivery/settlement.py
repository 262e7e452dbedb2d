"""Outcomes of deliveries: gathered for a moment, written as intervals, and only then are the deliveries finished."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from streams.acks import PendingAcks
from streams.delivery.objects import StoredObject
from streams.delivery.parcels import Parcel
from streams.guard import Guard
from streams.internal_error import INTERNAL
from streams.ledger import Tally
from streams.metrics import DELIVERY_OUTCOMES
from streams.produce import Producer
from streams.progress import Run
from streams.topics import DeadLetter, Origin, Outcome, Retried, Stage, Topics, rejected_headers


class Unreadable:
    """A record that holds no delivery, and goes to the rejected topic."""

    __slots__ = ("_index", "record", "run")

    def __init__(self, run: Run | StoredObject, index: int, record: Any) -> None:
        self.run, self._index, self.record = run, index, record

    def finish(self) -> None:
        """The rejected record is confirmed."""
        self.run.finish_record(self._index)


class Settlements:
    """Writes what became of one integration's deliveries; outcomes are gathered for `moment` seconds.

    `guard` holds dead letters and rejected records of the reason INTERNAL until it is certain that the worker works.
    """

    def __init__(
        self, integration: str, topics: Topics, producer: Producer, guard: Guard, moment: float = 0.05
    ) -> None:
        self._integration, self._topics, self._producer, self._moment = integration, topics, producer, moment
        self._guard = guard
        self._passed = 0
        self._tallies: dict[tuple[str, int, str], Tally] = {}
        self._acks: PendingAcks | None = None
        self._parcels: list[Parcel | StoredObject | Unreadable] = []
        self._unconfirmed = 0
        self._timer: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    def settle(self, parcel: Parcel, outcome: Outcome, reason: str = "", detail: str = "") -> None:
        """Record a delivery's final outcome; `reason` is required unless it was delivered."""
        self._passed += 1
        parcel.settled = True
        self._add(parcel)
        delivery = parcel.delivery
        topic, partition, offset = delivery.origin
        tally = self._tally_of(topic, partition, delivery.rules)
        if reason:
            tally.name(self._integration, delivery.rule, outcome, offset, reason, detail)
        else:
            tally.add(self._integration, delivery.rule, outcome, offset)

    def settle_rows(self, written: StoredObject) -> None:
        """An object is written: its rows are delivered."""
        self._add(written)
        for (topic, partition, rules, rule), offsets in written.rows.items():
            self._tally_of(topic, partition, rules).extend(self._integration, rule, Outcome.DELIVERED, offsets)

    def bury(self, parcel: Parcel, letter: DeadLetter) -> None:
        """Keep the letter of a dead delivery, and settle it."""
        self._producer.safe_append(
            self._topics.dead,
            parcel.delivery.origin.partition % self._topics.partitions,
            self._current(),
            key=parcel.key,
            forms=letter.forms(),
        )
        self.settle(parcel, Outcome.DEAD, letter.reason, letter.detail)

    def bury_failed(self, parcel: Parcel, letter: DeadLetter, error: Exception) -> None:
        """Bury a delivery that could not be handled, as soon as the guard allows it."""
        parcel.settled = True
        self._hold(parcel.run, parcel.delivery.origin, error, lambda: self.bury(parcel, letter))

    def reject(self, unreadable: Unreadable, reason: str, detail: str) -> None:
        """Keep a record that holds no delivery in the rejected topic."""
        self._passed += 1
        record = unreadable.record
        topic, partition = unreadable.run.tp
        headers = rejected_headers(reason, detail, "", Origin(topic, partition, record.offset))
        self._add(unreadable)
        self._producer.safe_append(
            self._topics.rejected,
            partition % self._topics.partitions,
            self._current(),
            key=record.key,
            forms=[lambda: (record.value or b"", headers), lambda: (b"", headers)],
        )

    def reject_failed(self, unreadable: Unreadable, detail: str, error: Exception) -> None:
        """Reject a record that could not even be made a delivery, as soon as the guard allows it."""
        origin = Origin(*unreadable.run.tp, unreadable.record.offset)
        self._hold(unreadable.run, origin, error, lambda: self.reject(unreadable, INTERNAL, detail))

    def hand_on(self, parcel: Parcel, retried: Retried) -> None:
        """Keep a delivery that is to be tried again later in the retry topic. Its outcome is still to come."""
        self._producer.append(
            self._topics.retry(self._integration),
            parcel.delivery.origin.partition % self._topics.partitions,
            self._current(),
            key=parcel.key,
            value=parcel.record.value,
            headers=retried.headers(),
        )
        parcel.settled = True
        self._passed += 1
        self._add(parcel)

    def _hold(self, run: Run | StoredObject, origin: Origin, error: Exception, write: Callable[[], None]) -> None:
        if isinstance(run, Run):
            run.rest()

        def write_unless_dropped() -> None:
            if not run.dropped:
                write()
                # The guard has counted it as failed.
                self._passed -= 1

        self.count_passed()
        self._guard.failed(error, write_unless_dropped, **origin._asdict())

    def _tally_of(self, topic: str, partition: int, rules: str) -> Tally:
        place = (topic, partition, rules)
        tally = self._tallies.get(place)
        if tally is None:
            tally = self._tallies[place] = Tally(Stage.FORWARDER, *place)
        return tally

    def count_passed(self, rows: int = 0) -> None:
        """Tell the guard what was settled since the last time, and how many rows besides."""
        passed, self._passed = self._passed + rows, 0
        if passed > 0:
            self._guard.passed(passed)

    async def wait_until_idle(self) -> None:
        """Write what is gathered, and wait until all of it is confirmed."""
        self._guard.flush()
        self._write()
        await self._idle.wait()

    def _add(self, parcel: Parcel | StoredObject | Unreadable) -> None:
        """Finish this when all records that are written in this moment are confirmed."""
        if self._acks is None:
            self._current()
        self._parcels.append(parcel)

    def _current(self) -> PendingAcks:
        if self._acks is None:
            self._parcels = []
            self._acks = PendingAcks(partial(self._finish, self._parcels))
            self._unconfirmed += 1
            self._idle.clear()
            self._timer = asyncio.get_running_loop().call_later(self._moment, self._write)
        return self._acks

    def _finish(self, parcels: Sequence[Parcel | StoredObject | Unreadable], error: BaseException | None) -> None:
        """Finish what was settled in one moment, unless Kafka refused a record about it."""
        if error is None:
            for parcel in parcels:
                parcel.finish()
        self._unconfirmed -= 1
        if not self._unconfirmed:
            self._idle.set()

    def _write(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        self.count_passed()
        acks, self._acks = self._acks, None
        if acks is None:
            return
        tallies, self._tallies = self._tallies, {}
        for (topic, partition, _), tally in tallies.items():
            tally.count(DELIVERY_OUTCOMES)
            for outcomes in tally.records():
                self._producer.append(
                    self._topics.outcomes,
                    partition % self._topics.partitions,
                    acks,
                    key=f"{topic}:{partition}".encode(),
                    value=outcomes.encode(),
                )
        acks.seal()
