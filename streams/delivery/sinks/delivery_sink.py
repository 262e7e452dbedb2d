"""The sink agent of one integration: batch, send, parse the response, retry or give up."""

import asyncio
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from time import perf_counter
from typing import Any, NamedTuple

import orjson
import structlog

from forwarders.api.contract import (
    AuthFailed,
    Delivered,
    Forwarder,
    HttpForwarder,
    PermanentFailure,
    Retry,
    Split,
    Throttled,
    WriterForwarder,
)
from streams.delivery.flow.backoff import backoff
from streams.delivery.flow.batch_queue import BatchQueue
from streams.delivery.flow.batches import NO_FAILURES, PROBES, STRIKES, Batch, Batches
from streams.delivery.flow.bisect import BatchBisector
from streams.delivery.flow.breaker import Breaker
from streams.delivery.flow.delay_queue import DelayQueue
from streams.delivery.flow.key_holds import KeyHolds
from streams.delivery.flow.rates import Rates
from streams.delivery.flow.settings import DeliverySettings
from streams.delivery.flow.worker_pool import WorkerPool
from streams.delivery.http.client import Client
from streams.delivery.http.sender import Attempt, BatchSender
from streams.delivery.http.tokens import Tokens
from streams.delivery.outcomes.dead_letters import DeadLetterFactory, InternalFailure
from streams.delivery.outcomes.masking import Mask
from streams.delivery.outcomes.pending import PendingDelivery
from streams.delivery.outcomes.preflight import Preflight
from streams.delivery.outcomes.writer import OutcomeWriter, Unreadable
from streams.kafka.offsets import TP, RecordBatch
from streams.kafka.producer import Producer
from streams.observability.internal_error import describe
from streams.observability.metrics import DELIVERY_RETRIES, DELIVERY_SECONDS
from streams.records.delivery import DeliveryRecord, Retried
from streams.records.format import NewerFormatError, RecordError
from streams.records.outcomes import Outcome
from streams.topics import Topics
from streams.worker.guard import Guard

log = structlog.get_logger()

MAX_PORTION = 20
"""Batches that each failed probe moves to the retry topic if memory is full, so that later deliveries are tried."""

ANSWER_CHARACTERS = 200
"""Characters of a vendor's last answer that a process reports."""

YIELD_EVERY = 50
"""Records that are unpacked before others have their turn."""


class _BatchResult(NamedTuple):
    """The deliveries of a batch that must be sent in smaller parts, and whether any other one failed for good."""

    refused: list[PendingDelivery]
    dead: bool
    poisoned: bool


class DeliverySink:
    """Deliver the events that were forwarded to one integration.

    Unordered, any worker takes the next batch. Ordered, each lane (a hash of the key) has one worker, so that one batch
    of it is on its way at a time. What fails waits without a worker, and later deliveries go first; if the integration
    is ordered, those of the same key wait behind it.

    With `shadow` nothing is sent: the outcome is `filtered`, with a reason for what the vendor would never have taken.
    `rest` lets a partition alone for so many seconds; `share` is this process's part of the forward topic; `full` says
    whether memory has no room for more deliveries.
    """

    def __init__(
        self,
        integration: str,
        forwarder: Forwarder[Any],
        settings: DeliverySettings,
        topics: Topics,
        producer: Producer,
        *,
        fail: Callable[[Exception], None],
        clock: Callable[[], float],
        shadow: bool = False,
    ) -> None:
        contract = forwarder.contract
        self.integration = integration
        self._forwarder = forwarder
        self._settings = settings
        self._producer = producer
        self._guard = Guard(integration, fail)
        self._shadow = shadow
        self._clock = clock
        self.rest: Callable[[TP, float], None] = lambda _tp, _seconds: None
        self.share: Callable[[], float] = lambda: 1.0
        self.full: Callable[[], bool] = lambda: False
        self._ordered = contract.ordered if settings.ordered is None else settings.ordered
        writes = isinstance(forwarder, WriterForwarder)
        self._retry_topic = topics.retry(integration)
        limits = forwarder.limits
        self._limits = replace(limits, items=min(limits.items, settings.items or limits.items))
        self._preflight = Preflight(forwarder, self._limits, settings.max_age)
        self._lanes = settings.concurrency if self._ordered or writes else 1
        self._breaker = Breaker(integration, settings.breaker_failures, settings.backoff_min, settings.backoff_max)
        self._queues = [BatchQueue(self._breaker, ordered=self._ordered) for _ in range(self._lanes)]
        self._batches = Batches(self._limits, settings.linger, self._enqueue, ordered=self._ordered)
        self._due = DelayQueue(self._gather)
        self._aside = DelayQueue(self._gather)
        self._throttles = 0
        self._delivered_at = -math.inf
        self._again: dict[Batch, asyncio.TimerHandle] = {}
        # The retry topic would lose the order.
        self._holding = KeyHolds(self._limits, self._group_of, settings.fetched_bytes // 2) if self._ordered else None
        self._rates = Rates.of(contract, settings)
        self._writer = OutcomeWriter(integration, topics, producer, self._guard)
        self._mask = Mask(forwarder.settings)
        self._dead_letters = DeadLetterFactory(integration, self._mask, clock)
        client = Client(settings.concurrency, settings.timeout)
        tokens = Tokens(integration, forwarder, client, clock=clock, learn=self._mask.learn)
        self._sender = BatchSender(integration, forwarder, client, tokens)
        self._pool = WorkerPool(self._deliver, fail)
        self._breaker.before_probe = self._hurry

    async def start(self) -> None:
        """Open connections or files, and start the workers."""
        await self._sender.open()
        self._pool.start(self._queues, self._settings.concurrency)

    async def stop(self) -> None:
        """End the workers, and close what was opened."""
        self._guard.drop()
        await self._pool.stop()
        self._breaker.close()
        await self._sender.close()

    def waits(self) -> bool:
        """Whether a request is on its way, backs off or waits for the vendor: all are bounded, and no stall."""
        return bool(self._pool.busy or len(self._aside) or self._again or self._breaker.blocks)

    @property
    def vendor(self) -> Breaker:
        """Whether deliveries go out to the vendor."""
        return self._breaker

    def _hurry(self) -> None:
        """Queue the batches that wait to be sent again, for a probe on demand. Suspects go on waiting."""
        for batch, timer in list(self._again.items()):
            if not batch.is_suspect:
                timer.cancel()
                self._queue_again(batch)

    async def work(self, run: RecordBatch) -> None:
        """Gather a run's deliveries into batches; they finish later, each on its own."""
        self._rates.share = self.share() or 1.0
        latest = 0.0
        now = self._clock()
        for index, record in enumerate(run.records):
            if index and index % YIELD_EVERY == 0:
                await asyncio.sleep(0)
                if self._pool.leaving.is_set() or run.dropped:
                    return
            pending = self._unpack(run, index, record)
            if pending is None:
                continue
            # Never longer than the delay, whatever has happened to the clock.
            wait = min(pending.due - now, self._settings.retry_delay)
            if wait > 0:
                latest = max(latest, wait)
                self._due.put(pending, wait)
            else:
                self._gather(pending)
        if latest:
            run.rest()
            self.rest(run.tp, latest)
        await self._producer.wait_for_room()

    async def settle(self, patience: float) -> None:
        """The partitions are about to go: begin nothing more, and wait for what is on its way for so many seconds."""
        self._pool.leaving.set()
        self._breaker.wake()
        self._batches.clear()
        self._due.clear()
        self._aside.clear()
        for timer in self._again.values():
            timer.cancel()
        self._again.clear()
        if self._holding is not None:
            self._holding.clear()
        for queue in self._queues:
            queue.clear()
        if not await self._pool.rest(self._writer, patience):
            log.warning("left with requests on their way, which will be repeated", integration=self.integration)

    def resume(self, _: object = None) -> None:
        """The partitions have gone, with all that was put aside; from here on deliveries are new ones."""
        self._pool.leaving.clear()

    def _unpack(self, run: RecordBatch, index: int, record: Any) -> PendingDelivery | None:
        """Make a delivery of a record; None if its outcome is already clear. Raises NewerFormatError."""
        try:
            retried = Retried.decode(record.headers) if run.tp[0] == self._retry_topic else None
            delivery = DeliveryRecord.decode(record.value)
            size = len(orjson.dumps(delivery.payload))
            pending = PendingDelivery(delivery, record.key, size, run, index, self._preflight.expiry(delivery.time))
        except NewerFormatError:
            raise
        except RecordError as error:
            log.error("not a delivery", topic=run.tp[0], partition=run.tp[1], offset=record.offset, error=str(error))  # noqa: TRY400
            self._writer.reject(Unreadable(run, index, record), "not_a_delivery", str(error))
            return None
        except Exception as error:  # noqa: BLE001  # one odd record must not stop the others
            self._writer.reject_failed(Unreadable(run, index, record), describe(error), error)
            return None
        try:
            if retried:
                pending.attempts, pending.due, pending.since = retried.attempts, retried.due, retried.since
            if pending.expires <= self._clock():
                self._writer.settle(pending, Outcome.EXPIRED)
                return None
            problem = self._preflight.problem(delivery.payload, size)
            if self._shadow:
                detail = f"{problem.reason}: {self._mask(problem.detail)}" if problem else ""
                self._writer.settle(pending, Outcome.FILTERED, "shadow" if problem else "", detail)
                return None
            if problem is not None:
                self._dead_letter(pending, problem)
                return None
        except Exception as error:  # noqa: BLE001  # as above
            self._dead_letter_failed(pending, error)
            return None
        return pending

    def _gather(self, pending: PendingDelivery) -> None:
        try:
            self._batches.add(pending, self._lane_of(pending), self._group_of(pending))
        except Exception as error:  # noqa: BLE001  # an error in a forwarder, such as a key that is not hashable
            self._dead_letter_failed(pending, error)

    def _lane_of(self, pending: PendingDelivery) -> int:
        if self._lanes == 1:
            return 0
        return (hash(pending.key) if self._ordered else pending.run.tp[1]) % self._lanes

    def _group_of(self, pending: PendingDelivery) -> Any:
        if isinstance(self._forwarder, HttpForwarder):
            return self._forwarder.group_key(pending.delivery.payload) if self._limits.items > 1 else None
        return pending.run.tp

    def _enqueue(self, lane: int, batch: Batch) -> None:
        self._queues[lane].put_nowait(batch)

    async def _deliver(self, batch: Batch) -> None:
        """Send a batch until each of its deliveries is settled, handed on, or waits to be sent again."""
        deliveries = self._batches.seal(batch)
        try:
            await self._send_in_parts(batch, deliveries)
        except Exception as error:  # noqa: BLE001  # one odd delivery must not stop the others
            waiting = self._find_waiting()
            for pending in deliveries:
                if not (pending.settled or id(pending) in waiting):
                    self._dead_letter_failed(pending, error)
        if self._holding and not self._pool.leaving.is_set():
            for after in self._holding.release({pending.key for pending in deliveries}, batch):
                self._enqueue(after.place[0], after)

    def _find_waiting(self) -> set[int]:
        """Return the identities of all deliveries that wait to be sent again."""
        batches = [*self._again, *(batch for queue in self._queues for batch in queue.waiting)]
        behind = self._holding.waiting if self._holding is not None else ()
        return {id(pending) for batch in batches for pending in batch.deliveries} | {
            *map(id, behind),
            *self._aside.waiting,
        }

    async def _send_in_parts(self, batch: Batch, deliveries: list[PendingDelivery]) -> None:
        """Send a batch, and smaller parts of it while the vendor rejects it as a whole."""
        bounced = await self._send_until_settled(batch, deliveries)
        if not bounced.refused:
            return
        bisector = BatchBisector(bounced.refused, poisoned=bounced.poisoned)
        while (part := bisector.next()) and not self._pool.leaving.is_set():
            bounced = await self._send_until_settled(batch, part)
            bisector.report(bounced.refused, dead=bounced.dead)

    async def _send_until_settled(self, batch: Batch, deliveries: list[PendingDelivery]) -> _BatchResult:
        """Send these deliveries of a batch once, and act on the result of each."""
        deliveries = await self._admit(batch, deliveries)
        if not deliveries:
            return _BatchResult([], True, True)
        self._breaker.sent = number = self._breaker.sent + 1
        probe, batch.is_probe = batch.is_probe, False
        began = perf_counter()
        attempt = await self._sender.send(deliveries)
        DELIVERY_SECONDS.labels(self.integration, attempt.status).observe(perf_counter() - began)
        suspect = self._note(batch, deliveries, attempt, number, probe=probe)
        refused: list[PendingDelivery] = []
        again: list[PendingDelivery] = []
        asked: list[float | None] = []
        dead, poisoned, throttled = False, True, False
        for pending, result in zip(deliveries, attempt.results, strict=True):
            pending.attempts += 1
            match result:
                case Delivered():
                    self._writer.settle(pending, Outcome.DELIVERED)
                case PermanentFailure():
                    self._dead_letter(pending, result, attempt)
                    dead = True
                case Split() if len(deliveries) > 1:
                    refused.append(pending)
                    poisoned = attempt.response is None or attempt.response.status != 413
                case Split():
                    self._dead_letter(
                        pending,
                        PermanentFailure("too_large", "the vendor rejected it as too large on its own"),
                        attempt,
                    )
                    dead = True
                case Throttled(wanted, "user") if self._pause_user(pending, wanted):
                    pass
                case Retry(wanted) | Throttled(wanted):
                    again.append(pending)
                    asked.append(wanted)
                    throttled |= isinstance(result, Throttled) and result.scope != "user"
                case AuthFailed():
                    again.append(pending)
                    asked.append(None)
        if not again:
            return _BatchResult(refused, dead, poisoned)
        DELIVERY_RETRIES.labels(self.integration).inc(len(again))
        failures = batch.failures if len(again) == len(deliveries) else NO_FAILURES
        failed = batch.part(
            again,
            replace(
                failures,
                in_a_row=failures.in_a_row + 1,
                own=failures.own + suspect,
                is_own=suspect,
                shared=failures.shared + (probe and not suspect),
                last=self._breaker.sent,
            ),
        )
        if throttled and failed.failures.own < PROBES and not (suspect and again[0].since is not None):
            self._put_aside(failed, self._pause_all(failures.in_a_row, *asked))
        else:
            wait = backoff(self._settings, failures.in_a_row, *asked)
            self._handle_failure(failed, wait, suspect=suspect, attempt=attempt)
        return _BatchResult(refused, True, poisoned)

    def _note(
        self, batch: Batch, deliveries: list[PendingDelivery], attempt: Attempt, number: int, *, probe: bool
    ) -> bool:
        """Tell the breaker the results of a request; returns whether its deliveries are suspects, and failed again."""
        if isinstance(attempt.results[0], Delivered):
            self._throttles = 0
            self._delivered_at = self._clock()
            self._breaker.record_results(attempt.results, number=number, probe=probe)
            return False
        if attempt.response is not None:
            self._breaker.note_answer(
                attempt.response.status, self._mask.excerpt(attempt.response.body, ANSWER_CHARACTERS)
            )
        else:
            self._breaker.note_answer(None, attempt.why or ("no response" if attempt.request else "failed"))
        failures, delay = batch.failures, self._settings.retry_delay
        if failures.in_a_row:
            suspect = self._breaker.delivered > failures.last
        else:
            # They failed before they went to the retry topic, if all of them come from there.
            suspect = all(each.since is not None and self._delivered_at > each.due - delay for each in deliveries)
        was_open = self._breaker.is_open
        self._breaker.record_results(
            attempt.results,
            attempt.why,
            number=number,
            probe=probe,
            suspect=suspect,
            again=failures.in_a_row > 0,
            comparable=failures.own > 0 or self._pool.busy > 1 or any(not queue.empty() for queue in self._queues),
        )
        if self._breaker.is_open and self._holding is None:
            for queue in self._queues:
                if not was_open:
                    self._make_room(queue.take_suspects())
                elif probe and self.full():
                    self._make_room(queue.take_first(MAX_PORTION))
        return suspect

    def _pause_all(self, tries: int, *asked: float | None) -> float:
        """The vendor is throttling: send nothing for a while; returns for how many seconds."""
        wait = backoff(self._settings, max(tries, self._throttles), *asked)
        if not self._rates.paused:
            self._throttles += 1
        self._rates.pause(wait)
        return wait

    def _handle_failure(self, batch: Batch, wait: float, *, suspect: bool, attempt: Attempt) -> None:
        """Decide what becomes of deliveries that failed together: sent again, taken apart, handed on, or dead."""
        deliveries, failures = batch.deliveries, batch.failures
        # While delivery is paused waiting is not the delivery's own doing.
        counts = suspect or not self._breaker.is_open
        exhausted = counts and failures.spent + wait > self._settings.retry_in_place
        if counts:
            batch.failures = replace(failures, spent=failures.spent + wait)
        if len(deliveries) > 1 and self._is_divided(batch, counts=counts, exhausted=exhausted):
            self._take_apart(batch, 0.0 if suspect else wait)
        elif self._holding is not None:
            self._keep_or_dead_letter(batch, wait, suspect=suspect, counts=counts, attempt=attempt)
        elif exhausted or failures.shared >= PROBES:
            for pending in deliveries:
                self._hand_on(pending, "failing" if counts else "paused", failures.spent)
        else:
            self._put_aside(batch, wait)

    def _make_room(self, batches: Iterable[Batch]) -> None:
        """Move batches to the retry topic while delivery is paused, so that others are probed, or fetched."""
        for batch in batches:
            for pending in self._batches.seal(batch):
                if not pending.run.dropped:
                    self._hand_on(pending, "failing" if batch.failures.is_own else "paused", batch.failures.spent)

    def _is_divided(self, batch: Batch, *, counts: bool, exhausted: bool) -> bool:
        """Whether one delivery may be the reason why a batch fails."""
        if not counts:
            return batch.failures.shared >= PROBES
        # A whole batch may wait in the retry topic once; an ordered integration has none.
        waited = self._holding is not None or any(pending.since is not None for pending in batch.deliveries)
        return batch.failures.own > 0 or (exhausted and waited)

    def _keep_or_dead_letter(self, batch: Batch, wait: float, *, suspect: bool, counts: bool, attempt: Attempt) -> None:
        """Hold the keys of an ordered integration's deliveries that failed, until one has failed for too long."""
        assert self._holding is not None
        failures = batch.failures
        if not counts and failures.own >= STRIKES:
            counts = True
            failures = batch.failures = replace(failures, spent=failures.spent + wait)
        outlasted = counts and failures.own > 0 and failures.spent > self._settings.retry_for
        # With no room left nothing else is fetched, so that nothing could ever be delivered.
        in_the_way = (suspect and self._holding.full) or (failures.own > 0 and self.full())
        if len(batch.deliveries) == 1 and (outlasted or in_the_way):
            self._holding.outlast(batch.deliveries[0].key, failures.spent)
            self._dead_letter(
                batch.deliveries[0], PermanentFailure("retries", f"failed for {failures.spent:.0f} s"), attempt
            )
        else:
            self._put_aside(batch, wait)

    def _take_apart(self, batch: Batch, wait: float) -> None:
        """Send a batch that fails in two parts: one of its deliveries may be the reason. A key is never divided."""
        deliveries = batch.deliveries
        failures = replace(batch.failures, shared=min(batch.failures.shared, PROBES - 1))
        if self._holding is None:
            half = len(deliveries) // 2
            parts = [deliveries[:half], deliveries[half:]]
        else:
            keys = list(dict.fromkeys(pending.key for pending in deliveries))
            first = set(keys[: len(keys) // 2])
            parts = [[each for each in deliveries if (each.key in first) is chosen] for chosen in (True, False)]
            if len(keys) == 1:
                parts = [deliveries[:1]]
                self._holding.hold(batch)
                self._holding.push_back(deliveries[1:])
        for part in parts:
            self._put_aside(batch.part(part, failures), wait)

    def _put_aside(self, batch: Batch, wait: float) -> None:
        """Send a batch again after `wait` seconds. No worker waits for it; of an ordered integration its keys do."""
        if self._pool.leaving.is_set():
            return
        if self._holding is not None:
            self._holding.hold(batch)
        timer = asyncio.get_running_loop().call_later(wait, self._queue_again, batch)
        self._again[batch] = timer

    def _queue_again(self, batch: Batch) -> None:
        del self._again[batch]
        if self._breaker.is_open and batch.is_suspect and self._holding is None:
            self._make_room([batch])
            return
        self._enqueue(batch.place[0], batch)

    async def _admit(self, batch: Batch, deliveries: list[PendingDelivery]) -> list[PendingDelivery]:
        """Wait until these may be sent together; returns them without those that are too old or whose user must wait.

        Returns none if the partition is revoked, or if delivery is paused meanwhile: then they are in the queue again.
        """
        if self._holding is not None:
            deliveries = self._holding.divert(deliveries, batch)
        if deliveries and self._rates.knows_users:
            deliveries = await self._spare_users(deliveries)
        if deliveries and (wait := self._rates.wait(len(deliveries))):
            await self._pool.sleep(wait)
        if self._pool.leaving.is_set():
            deliveries = []
        deliveries = [pending for pending in deliveries if not pending.run.dropped]
        if self._preflight.max_age is not None:
            deliveries = self._drop_expired(deliveries)
        if not deliveries:
            if batch.is_probe:
                batch.is_probe = False
                self._breaker.give_back()
        elif self._breaker.is_held or (self._breaker.is_open and not batch.is_probe):
            if batch.is_probe:
                batch.is_probe = False
                self._breaker.give_back()
            self._wait_for_probe(batch, deliveries)
            return []
        return deliveries

    def _wait_for_probe(self, batch: Batch, deliveries: list[PendingDelivery]) -> None:
        """Put deliveries that may not be sent now in front of their queue."""
        waiting = batch.part(deliveries, batch.failures)
        if self._holding is not None:
            self._holding.hold(waiting)
        self._queues[batch.place[0]].put_back(waiting)

    def _drop_expired(self, deliveries: list[PendingDelivery]) -> list[PendingDelivery]:
        now = self._clock()
        for pending in deliveries:
            if pending.expires <= now:
                self._writer.settle(pending, Outcome.EXPIRED)
        return [pending for pending in deliveries if pending.expires > now]

    async def _spare_users(self, deliveries: list[PendingDelivery]) -> list[PendingDelivery]:
        """Those whose users have room; the others wait on the shelf or, where order matters, all wait here."""
        waits = [self._rates.wait_of_user(pending.key, counts=not pending.reserved) for pending in deliveries]
        for pending in deliveries:
            pending.reserved = True
        if self._ordered:
            await self._pool.sleep(max(waits))
            return deliveries
        for pending, wait in zip(deliveries, waits, strict=True):
            if wait:
                self._aside.put(pending, wait)
        return [pending for pending, wait in zip(deliveries, waits, strict=True) if not wait]

    def _pause_user(self, pending: PendingDelivery, wanted: float | None) -> bool:
        """The vendor takes nothing more of this user for a while; whether the delivery is seen to, and others go on."""
        wait = backoff(self._settings, 0, wanted)
        self._rates.pause_user(pending.key, wait)
        if self._ordered:
            return False
        if (wanted or wait) > self._settings.retry_in_place:
            self._hand_on(pending, "throttled")
        else:
            self._aside.put(pending, wait)
        return True

    def _hand_on(self, pending: PendingDelivery, reason: str, spent: float = 0.0) -> None:
        """Move a delivery to the retry topic, or bury it if it failed for too long.

        Its age, which counts against `retry_for`, is the time from `since` to `due` of its record. While delivery is
        paused it does not grow.
        """
        delay = self._settings.retry_delay
        age = spent if pending.since is None else max(0.0, pending.due - pending.since) + spent
        if reason != "paused":
            if age > self._settings.retry_for:
                self._dead_letter(pending, PermanentFailure("retries", f"failed for {age:.0f} s ({reason})"))
                return
            age += delay
        due = self._clock() + delay
        self._writer.requeue(pending, Retried(pending.attempts, due, due - age, reason))

    def _dead_letter(self, pending: PendingDelivery, dead: PermanentFailure, attempt: Attempt | None = None) -> None:
        request, response = (attempt.request, attempt.response) if attempt else (None, None)
        letter = self._dead_letters.write(pending, dead, request, response)
        if isinstance(dead, InternalFailure) and dead.error is not None:
            self._writer.dead_letter_internal(pending, letter, dead.error)
        else:
            self._writer.dead_letter(pending, letter)

    def _dead_letter_failed(self, pending: PendingDelivery, error: Exception) -> None:
        self._dead_letter(pending, InternalFailure.by(error))
