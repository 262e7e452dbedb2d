"""Write the outcomes of deliveries as intervals, and finish the deliveries once Kafka has stored them."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from forwarders.api.contract import PermanentFailure, Request, Response
from streams.clock import time
from streams.delivery.objects.buffer import ObjectBuffer
from streams.delivery.outcomes.dead_letters import DeadLetterFactory, InternalFailure
from streams.delivery.outcomes.pending import PendingDelivery
from streams.kafka.acks import PendingAcks
from streams.kafka.offsets import RecordBatch
from streams.kafka.producer import Producer
from streams.ledger.outcome_buffer import OutcomeBuffer
from streams.observability.internal_error import INTERNAL
from streams.observability.metrics import DELIVERY_LEFT_OUT, DELIVERY_OUTCOMES, END_TO_END_SECONDS
from streams.parsing.times import seconds_of
from streams.records.dead_letter import DeadLetter
from streams.records.delivery import Retried
from streams.records.event import Origin
from streams.records.outcomes import Outcome, Stage
from streams.records.rejected import rejected_headers
from streams.topics import Topics
from streams.worker.guard import Guard

LEFT_OUT = "left_out"
"""The note about an event whose invalid optional values were not sent to a vendor."""


class Unreadable:
    """A record that is not a valid delivery, and goes to the rejected topic."""

    __slots__ = ("fetched", "index", "record")

    def __init__(self, fetched: RecordBatch | ObjectBuffer, index: int, record: Any) -> None:
        self.fetched, self.index, self.record = fetched, index, record

    def finish(self) -> None:
        """Finish the record: the rejected record is acknowledged."""
        self.fetched.finish_record(self.index)


Rows = Mapping[tuple[str, int, str, str], Sequence[int]]
"""The offsets of the events in an object, by their topic, partition, version of the rules, and rule."""

LeftOut = Sequence[tuple[Origin, str, Sequence[str]]]
"""The origin, the version of the rules and the notes of each event whose invalid optional values were left out."""


class StoredRows(NamedTuple):
    """A number of rows of an object that are stored."""

    fetched: ObjectBuffer
    number: int

    def finish(self) -> None:
        """Finish the rows: their outcomes are acknowledged."""
        self.fetched.finish_records(self.number)


class OutcomeWriter:
    """Write the outcomes of one integration's deliveries, and their dead letters.

    Args:
        integration: The integration's name.
        topics: The topics to write to.
        producer: The process's producer.
        guard: Holds dead letters and rejected records of the reason INTERNAL until the worker is known to work.
        dead_letters: Makes the integration's dead letters.
        moment: Seconds for which outcomes are gathered before they are written.

    """

    def __init__(
        self,
        integration: str,
        topics: Topics,
        producer: Producer,
        guard: Guard,
        dead_letters: DeadLetterFactory,
        moment: float = 0.05,
    ) -> None:
        self._integration, self._topics, self._producer, self._moment = integration, topics, producer, moment
        self._guard, self._dead_letters = guard, dead_letters
        self._end_to_end = END_TO_END_SECONDS.labels(integration)
        self._passed = 0
        self._buffers: dict[tuple[str, int, str], OutcomeBuffer] = {}
        self._acks: PendingAcks | None = None
        self._deliveries: list[PendingDelivery | StoredRows | Unreadable] = []
        self._unconfirmed = 0
        self._timer: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    def _observe(self, pending: PendingDelivery) -> None:
        """Measure the time since the collector accepted an event that is delivered now."""
        # Events that another producer wrote may have no such time, or an unreadable one.
        with suppress(ValueError, TypeError):
            self._end_to_end.observe(max(0.0, time() - seconds_of(pending.delivery.received)))

    def settle(
        self,
        pending: PendingDelivery,
        outcome: Outcome,
        reason: str = "",
        detail: str = "",
        status: int | None = None,
    ) -> None:
        """Record a delivery's final outcome; `reason` is required unless it was delivered.

        `status` is that of the last response.
        """
        self._passed += 1
        pending.settled = True
        if outcome is Outcome.DELIVERED:
            self._observe(pending)
        self._add(pending)
        delivery = pending.delivery
        topic, partition, offset = delivery.origin
        buffer = self._buffer_of(topic, partition, delivery.rules)
        if pending.left_out:
            self._note_left_out(buffer, offset, pending.left_out)
        if reason:
            buffer.name(self._integration, delivery.rule, outcome, offset, reason, detail)
        else:
            buffer.add(self._integration, delivery.rule, outcome, offset)
        buffer.attempt(self._integration, delivery.rule, outcome, (offset,), pending.attempts, status)

    def _note_left_out(self, buffer: OutcomeBuffer, offset: int, left_out: Sequence[str]) -> None:
        DELIVERY_LEFT_OUT.labels(self._integration).inc(len(left_out))
        buffer.note(offset, LEFT_OUT, f"{self._integration}: {'; '.join(left_out)}")

    def settle_rows(self, fetched: ObjectBuffer, rows: Rows, left_out: LeftOut, attempts: int) -> None:
        """Record that rows of an object were delivered at this attempt."""
        self._add(StoredRows(fetched, sum(map(len, rows.values()))))
        for (topic, partition, offset), rules, notes in left_out:
            self._note_left_out(self._buffer_of(topic, partition, rules), offset, notes)
        for (topic, partition, rules, rule), offsets in rows.items():
            buffer = self._buffer_of(topic, partition, rules)
            buffer.extend(self._integration, rule, Outcome.DELIVERED, offsets)
            buffer.attempt(self._integration, rule, Outcome.DELIVERED, offsets, attempts, None)

    def dead_letter(
        self,
        pending: PendingDelivery,
        failure: PermanentFailure,
        request: Request | None = None,
        response: Response | None = None,
    ) -> None:
        """Write a failed delivery's dead letter and its outcome; of an internal failure, once the guard allows it."""
        letter = self._dead_letters.make(pending, failure, request, response)
        if isinstance(failure, InternalFailure) and failure.error is not None:
            pending.settled = True
            write = partial(self._write_dead_letter, pending, letter)
            self._hold(pending.fetched, pending.delivery.origin, failure.error, write)
        else:
            self._write_dead_letter(pending, letter)

    def _write_dead_letter(self, pending: PendingDelivery, letter: DeadLetter) -> None:
        self._producer.safe_append(
            self._topics.dead,
            pending.delivery.origin.partition % self._topics.partitions,
            self._current(),
            key=pending.key,
            forms=letter.forms(),
        )
        status = letter.answer["status"] if letter.answer else None
        self.settle(pending, Outcome.DEAD, letter.reason, letter.detail, status)

    def reject(self, unreadable: Unreadable, reason: str, detail: str) -> None:
        """Write a record that is not a valid delivery to the rejected topic."""
        self._passed += 1
        record = unreadable.record
        topic, partition = unreadable.fetched.tp
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
        """Reject a record whose decoding raised an internal error, once the guard allows it."""
        origin = Origin(*unreadable.fetched.tp, unreadable.record.offset)
        self._hold(unreadable.fetched, origin, error, lambda: self.reject(unreadable, INTERNAL, detail))

    def requeue(self, pending: PendingDelivery, retried: Retried) -> None:
        """Write a delivery to the retry topic; it has no final outcome yet."""
        self._producer.append(
            self._topics.retry(self._integration),
            pending.delivery.origin.partition % self._topics.partitions,
            self._current(),
            key=pending.key,
            value=pending.record.value,
            headers=retried.headers(),
        )
        pending.settled = True
        self._passed += 1
        self._add(pending)

    def _hold(
        self, fetched: RecordBatch | ObjectBuffer, origin: Origin, error: Exception, write: Callable[[], None]
    ) -> None:
        if isinstance(fetched, RecordBatch):
            fetched.exclude_from_budget()

        def write_unless_dropped() -> None:
            if not fetched.dropped:
                write()
                # The guard has counted it as failed.
                self._passed -= 1

        self.count_passed()
        self._guard.failed(error, write_unless_dropped, **origin._asdict())

    def _buffer_of(self, topic: str, partition: int, rules: str) -> OutcomeBuffer:
        place = (topic, partition, rules)
        buffer = self._buffers.get(place)
        if buffer is None:
            buffer = self._buffers[place] = OutcomeBuffer(Stage.FORWARDER, *place)
        return buffer

    def count_passed(self, rows: int = 0) -> None:
        """Report to the guard the deliveries settled since the last call, and a number of rows."""
        passed, self._passed = self._passed + rows, 0
        if passed > 0:
            self._guard.passed(passed)

    async def wait_until_idle(self) -> None:
        """Write all gathered outcomes, and wait until they are acknowledged."""
        self._guard.flush()
        self._write()
        await self._idle.wait()

    def _add(self, pending: PendingDelivery | StoredRows | Unreadable) -> None:
        """Add an item to finish once all records written with it are acknowledged."""
        if self._acks is None:
            self._current()
        self._deliveries.append(pending)

    def _current(self) -> PendingAcks:
        if self._acks is None:
            self._deliveries = []
            self._acks = PendingAcks(partial(self._finish, self._deliveries))
            self._unconfirmed += 1
            self._idle.clear()
            self._timer = asyncio.get_running_loop().call_later(self._moment, self._write)
        return self._acks

    def _finish(
        self, deliveries: Sequence[PendingDelivery | StoredRows | Unreadable], error: BaseException | None
    ) -> None:
        """Finish the deliveries that were settled together, unless Kafka refused a record about them."""
        if error is None:
            for pending in deliveries:
                pending.finish()
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
        buffers, self._buffers = self._buffers, {}
        for (topic, partition, _), buffer in buffers.items():
            buffer.count(DELIVERY_OUTCOMES)
            for outcomes in buffer.records():
                self._producer.append(
                    self._topics.outcomes,
                    partition % self._topics.partitions,
                    acks,
                    key=f"{topic}:{partition}".encode(),
                    value=outcomes.encode(),
                )
        acks.seal()
