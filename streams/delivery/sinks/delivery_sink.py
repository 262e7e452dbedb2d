"""The sink of one integration: batch deliveries, send them, and act on the vendor's results."""

import asyncio
import math
from collections.abc import Callable
from dataclasses import replace
from time import monotonic, perf_counter
from typing import Any, NamedTuple

import structlog

from forwarders.api.contract import (
    AuthFailed,
    Delivered,
    Forwarder,
    PermanentFailure,
    Result,
    Retired,
    Retry,
    Split,
    Throttled,
    WriterForwarder,
)
from streams.delivery.flow.backoff import backoff
from streams.delivery.flow.batches import NO_FAILURES, PROBES, Batch
from streams.delivery.flow.bisect import BatchBisector
from streams.delivery.flow.breaker import Breaker
from streams.delivery.flow.rates import Rates
from streams.delivery.flow.retry_topic import RetryTopic
from streams.delivery.flow.schedule import Schedule
from streams.delivery.flow.settings import DeliverySettings
from streams.delivery.flow.worker_pool import WorkerPool
from streams.delivery.http.client import Client
from streams.delivery.http.sender import Attempt, BatchSender
from streams.delivery.http.tokens import Tokens
from streams.delivery.outcomes.dead_letters import DeadLetterFactory, InternalFailure
from streams.delivery.outcomes.masking import Mask
from streams.delivery.outcomes.pending import PendingDelivery
from streams.delivery.outcomes.preflight import Preflight
from streams.delivery.outcomes.writer import OutcomeWriter
from streams.delivery.sinks.admission import Admission
from streams.delivery.sinks.delivery_reader import DeliveryReader
from streams.delivery.sinks.failures import FailureHandler
from streams.kafka.offsets import RecordBatch
from streams.kafka.producer import Producer
from streams.observability.internal_error import to_exception
from streams.observability.metrics import DELIVERY_RETRIES, DELIVERY_SECONDS
from streams.records.outcomes import Outcome
from streams.topics import Topics
from streams.worker.guard import Guard

log = structlog.get_logger()

MAX_BATCHES_MOVED = 20
"""Batches that each failed probe moves to the retry topic if memory is full, so that later deliveries are tried."""

MAX_RESPONSE_CHARACTERS = 200
"""Maximum length of a vendor's last response in the report of a process."""

YIELD_EVERY = 50
"""Records that are decoded before the event loop runs other tasks."""


class _BatchResult(NamedTuple):
    """The deliveries to send in smaller parts, whether any other failed, and whether a bad delivery is the reason."""

    refused: list[PendingDelivery]
    dead: bool
    poisoned: bool


class DeliverySink:
    """Deliver the events that were forwarded to one integration.

    A failed delivery waits without a worker, and later deliveries go first; if the integration is ordered, those of the
    same key wait behind it.

    Args:
        integration: The integration's name.
        forwarder: Builds the requests and parses the responses, or writes.
        settings: The integration's settings.
        topics: The topics to write to.
        producer: The process's producer.
        fail: Called with an error that no single delivery caused.
        clock: Seconds since 1970.
        shadow: Send nothing, and record what would have happened.
        share: Returns this process's part of the forward topic's partitions.
        is_full: Returns whether memory has no room for more deliveries.
        give_back: Has a batch's records from an index on fetched again after a number of seconds.
        timer: Monotonic seconds, for rates.

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
        share: Callable[[], float] = lambda: 1.0,
        is_full: Callable[[], bool] = lambda: False,
        give_back: Callable[[RecordBatch, int, float], None] = lambda _batch, _index, _seconds: None,
        timer: Callable[[], float] = monotonic,
    ) -> None:
        contract = forwarder.contract
        ordered = contract.ordered if settings.ordered is None else settings.ordered
        limits = replace(forwarder.limits, items=min(forwarder.limits.items, settings.items or forwarder.limits.items))
        self.integration = integration
        self._settings, self._producer, self._clock = settings, producer, clock
        self._share, self._is_full, self._give_back = share, is_full, give_back
        self._delivered_at = -math.inf
        self._guard = Guard(integration, fail)
        self._mask = mask = Mask(forwarder.settings)
        dead_letters = DeadLetterFactory(integration, mask, clock)
        self._writer = OutcomeWriter(integration, topics, producer, self._guard, dead_letters)
        preflight = Preflight(forwarder, limits, settings.max_age)
        self._reader = DeliveryReader(
            topics.retry(integration), preflight, self._writer, mask, clock, shadow=shadow
        )  # fmt: skip
        client = Client(settings.concurrency, settings.timeout)
        tokens = Tokens(integration, forwarder, client, clock=clock, learn=mask.learn)
        self._sender = BatchSender(integration, forwarder, client, tokens)
        self._pool = WorkerPool(self._deliver, fail)
        self._breaker = Breaker(
            integration,
            settings.breaker_failures,
            settings.backoff_min,
            settings.backoff_max,
            on_probe=lambda: self._schedule.retry_now(),  # noqa: PLW0108  # the schedule is created below
        )
        self._rates = Rates.of(contract, settings, timer)
        retry_topic = RetryTopic(settings, self._writer, clock)
        self._schedule = Schedule(
            forwarder,
            settings,
            limits,
            self._breaker,
            retry_topic,
            self._writer,
            ordered=ordered,
            leaving=self._pool.leaving,
            queues=settings.concurrency if ordered or isinstance(forwarder, WriterForwarder) else 1,
        )
        self._admission = Admission(
            self._schedule,
            self._rates,
            self._breaker,
            self._pool,
            retry_topic,
            self._writer,
            clock,
            expires=preflight.max_age is not None,
        )
        self._failures = FailureHandler(
            settings, self._schedule, self._breaker, self._rates, retry_topic, self._writer, is_full
        )

    async def start(self) -> None:
        """Open connections or files, and start the workers."""
        await self._sender.open()
        self._pool.start(self._schedule.queues, self._settings.concurrency)

    async def stop(self) -> None:
        """Stop the workers, and close connections and files."""
        self._guard.drop()
        await self._pool.stop()
        self._breaker.close()
        await self._sender.close()

    def waits(self) -> bool:
        """Return whether a request is in flight, or backs off, or the vendor is down: all are bounded, not a stall."""
        return bool(self._pool.busy or self._schedule.has_retries or self._breaker.blocks)

    @property
    def vendor(self) -> Breaker:
        """Return the breaker, which pauses delivery."""
        return self._breaker

    async def work(self, fetched: RecordBatch) -> None:
        """Add the deliveries of a fetched batch to the schedule; each finishes later, on its own."""
        self._rates.share = self._share() or 1.0
        now = self._clock()
        for index, record in enumerate(list(fetched.records)):
            if index and index % YIELD_EVERY == 0:
                await asyncio.sleep(0)
                if self._pool.leaving.is_set() or fetched.dropped:
                    return
            pending = self._reader.read(fetched, index, record)
            if pending is None:
                continue
            wait = pending.due - now
            # Clocks of machines differ a little; a much longer wait than the delay comes from one that was changed.
            if 0 < wait <= 2 * self._settings.retry_delay:
                self._give_back(fetched, index, min(wait, self._settings.retry_delay))
                break
            self._schedule.add(pending)
        await self._producer.wait_for_room()

    async def settle(self, seconds: float) -> None:
        """Start no more requests, because the partitions are about to be revoked; wait for those in flight."""
        self._pool.leaving.set()
        self._breaker.wake()
        self._schedule.clear()
        if not await self._pool.wait_until_idle(self._writer, seconds):
            log.warning("stopped with requests in flight; they will be redelivered", integration=self.integration)

    def resume(self, _: object = None) -> None:
        """Start again after the partitions were revoked."""
        self._pool.leaving.clear()

    async def _deliver(self, batch: Batch) -> None:
        """Send a batch until each of its deliveries is settled, in the retry topic, or waits to be sent again."""
        deliveries = self._schedule.seal(batch)
        try:
            await self._send_in_parts(batch, deliveries)
        except BaseException as error:  # noqa: BLE001  # one odd delivery must not stop the others
            self._dead_letter_unsettled(deliveries, to_exception(error))
        self._schedule.release(deliveries, batch)

    def _dead_letter_unsettled(self, deliveries: list[PendingDelivery], error: Exception) -> None:
        waiting = self._schedule.waiting
        for pending in deliveries:
            if not (pending.settled or id(pending) in waiting):
                self._writer.dead_letter(pending, InternalFailure.by(error))

    async def _send_in_parts(self, batch: Batch, deliveries: list[PendingDelivery]) -> None:
        """Send a batch, and smaller parts of it while the vendor rejects it as a whole."""
        result = await self._send(batch, deliveries)
        if not result.refused:
            return
        bisector = BatchBisector(result.refused, poisoned=result.poisoned)
        while (part := bisector.next()) and not self._pool.leaving.is_set():
            result = await self._send(batch, part)
            bisector.report(result.refused, dead=result.dead)

    async def _send(self, batch: Batch, deliveries: list[PendingDelivery]) -> _BatchResult:
        """Send these deliveries of a batch once, and act on the result of each."""
        deliveries = await self._admission.admit(batch, deliveries)
        if not deliveries:
            return _BatchResult([], True, True)
        self._breaker.sent = number = self._breaker.sent + 1
        probe, batch.is_probe = batch.is_probe, False
        began = perf_counter()
        attempt = await self._sender.send(deliveries)
        DELIVERY_SECONDS.labels(self.integration, attempt.status).observe(perf_counter() - began)
        suspect = self._report_results(batch, deliveries, attempt, number, probe=probe)
        refused: list[PendingDelivery] = []
        again: list[tuple[PendingDelivery, Result]] = []
        dead, poisoned = False, True
        status = attempt.response.status if attempt.response is not None else None
        for pending, result in zip(deliveries, attempt.results, strict=True):
            pending.attempts += 1
            match result:
                case Delivered():
                    self._writer.settle(pending, Outcome.DELIVERED, status=status)
                case PermanentFailure():
                    self._writer.dead_letter(pending, result, attempt.request, attempt.response)
                    dead = True
                case Split() if len(deliveries) > 1:
                    refused.append(pending)
                    poisoned = attempt.response is None or attempt.response.status != 413
                case Split():
                    failure = PermanentFailure("too_large", "the vendor rejected it as too large on its own")
                    self._writer.dead_letter(pending, failure, attempt.request, attempt.response)
                    dead = True
                case Throttled(wanted, "user") if self._failures.throttled_user(pending, wanted):
                    pass
                case Retry() | Throttled() | AuthFailed() | Retired():
                    again.append((pending, result))
        if not again:
            return _BatchResult(refused, dead, poisoned)
        DELIVERY_RETRIES.labels(self.integration).inc(len(again))
        failures = batch.failures if len(again) == len(deliveries) else NO_FAILURES
        failed = batch.part(
            [pending for pending, _ in again],
            replace(
                failures,
                in_a_row=failures.in_a_row + 1,
                own=failures.own + suspect,
                is_own=suspect,
                shared=failures.shared + (probe and not suspect),
                last=self._breaker.sent,
            ),
        )
        asked = [result.after if isinstance(result, Retry | Throttled) else None for _, result in again]
        throttled = any(isinstance(result, Throttled) and result.scope != "user" for _, result in again)
        if throttled and failed.failures.own < PROBES and not (suspect and again[0][0].since is not None):
            self._failures.throttled(failed, failures.in_a_row, *asked)
        else:
            wait = backoff(self._settings, failures.in_a_row, *asked)
            self._failures.failed(failed, wait, attempt, suspect=suspect)
        return _BatchResult(refused, True, poisoned)

    def _report_results(
        self, batch: Batch, deliveries: list[PendingDelivery], attempt: Attempt, number: int, *, probe: bool
    ) -> bool:
        """Report the results of a request to the breaker; return whether its deliveries are suspects that failed."""
        if isinstance(attempt.results[0], Delivered):
            self._failures.note_delivered()
            self._delivered_at = self._clock()
            self._breaker.record_results(attempt.results, number=number, probe=probe)
            return False
        if attempt.response is not None:
            text = self._mask.excerpt(attempt.response.body, MAX_RESPONSE_CHARACTERS)
            self._breaker.note_answer(attempt.response.status, text)
        else:
            self._breaker.note_answer(None, attempt.why or ("no response" if attempt.request else "failed"))
        failures, delay = batch.failures, self._settings.retry_delay
        if failures.in_a_row:
            suspect = self._breaker.delivered > failures.last
        else:
            # They failed before they went to the retry topic, if all of them come from there.
            suspect = all(
                each.since is not None and each.attempts and not each.parked and self._delivered_at > each.due - delay
                for each in deliveries
            )
        was_open = self._breaker.is_open
        self._breaker.record_results(
            attempt.results,
            attempt.why,
            number=number,
            probe=probe,
            suspect=suspect,
            again=failures.in_a_row > 0,
            comparable=failures.own > 0 or self._pool.busy > 1 or self._schedule.has_queued,
        )
        if self._breaker.is_open and self._schedule.holds is None:
            for queue in self._schedule.queues:
                if not was_open:
                    self._schedule.move_to_retry_topic(queue.take_suspects())
                elif probe and self._is_full():
                    self._schedule.move_to_retry_topic(queue.take_first(MAX_BATCHES_MOVED))
        return suspect
