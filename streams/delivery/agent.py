"""The sink agent of one integration: batch, send, read the answer, try again or give up."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from time import perf_counter
from typing import Any, NamedTuple

import orjson
import structlog

from forwarders.contract import (
    Auth,
    Dead,
    Delivered,
    Forwarder,
    HttpForwarder,
    Retry,
    Split,
    Throttled,
    WriterForwarder,
)
from streams.delivery.backoff import backoff
from streams.delivery.breaker import Breaker
from streams.delivery.client import Client
from streams.delivery.crew import Crew
from streams.delivery.halving import Halving
from streams.delivery.letters import Failed, Letters
from streams.delivery.masking import Mask
from streams.delivery.parcels import Batch, Batches, Parcel, Shelf
from streams.delivery.preflight import Preflight
from streams.delivery.rates import Rates
from streams.delivery.sender import Attempt, Sender
from streams.delivery.settlement import Settlements, Unreadable
from streams.delivery.tokens import Tokens
from streams.guard import Guard, describe
from streams.metrics import DELIVERY_RETRIES, DELIVERY_SECONDS
from streams.produce import Producer
from streams.progress import TP, Run
from streams.settings import DeliverySettings
from streams.topics import Delivery, NewerFormatError, Outcome, RecordError, Retried, Topics

log = structlog.get_logger()

BREATH = 50
"""Records that are unpacked before others have their turn."""


class Bounced(NamedTuple):
    """What of a batch is left once it is answered: those refused for their company, and whether any was for itself."""

    refused: list[Parcel]
    dead: bool
    poisoned: bool


class Deliverer:
    """Delivers what one integration was forwarded.

    Unordered, any worker takes the next batch. Ordered, each lane (a hash of the key) has one worker: one batch of it
    is on its way at a time, and a lane holds while its head retries.

    With `shadow` nothing is sent: the outcome is `filtered`, with a reason for what the vendor would never have taken.
    `rest` lets a partition alone for so many seconds; `share` is this process's part of the forward topic.
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
        self._ordered = contract.ordered if settings.ordered is None else settings.ordered
        writes = isinstance(forwarder, WriterForwarder)
        # Their order, or the coordinates of a write, would be lost on the way through another topic.
        self._may_hand_on = not (self._ordered or writes)
        self._retry_topic = topics.retry(integration)
        limits = forwarder.limits
        self._limits = replace(limits, items=min(limits.items, settings.items or limits.items))
        self._preflight = Preflight(forwarder, self._limits, settings.max_age)
        self._lanes = settings.concurrency if self._ordered or writes else 1
        self._queues: list[asyncio.Queue[Batch]] = [asyncio.Queue() for _ in range(self._lanes)]
        self._batches = Batches(self._limits, settings.linger, self._enqueue, ordered=self._ordered)
        self._due = Shelf(self._gather)
        self._aside = Shelf(self._gather)
        self._rates = Rates.of(contract, settings)
        self._breaker = Breaker(integration, settings.breaker_failures, settings.backoff_min, settings.backoff_max)
        self._settlements = Settlements(integration, topics, producer, self._guard)
        self._mask = Mask(forwarder.settings)
        self._letters = Letters(integration, self._mask, clock)
        client = Client(settings.concurrency, settings.timeout)
        tokens = Tokens(integration, forwarder, client, clock=clock, learn=self._mask.learn)
        self._sender = Sender(integration, forwarder, client, tokens)
        self._crew = Crew(self._deliver, fail)

    async def start(self) -> None:
        """Open connections or files, and start the workers."""
        await self._sender.open()
        self._crew.start(self._queues, self._settings.concurrency)

    async def stop(self) -> None:
        """End the workers, and close what was opened."""
        self._guard.drop()
        await self._crew.stop()
        self._breaker.close()
        await self._sender.close()

    def waits(self) -> bool:
        """Whether a request is on its way, backs off or waits for the vendor: all are bounded, and no stall."""
        return self._crew.busy or len(self._aside) > 0

    async def work(self, run: Run) -> None:
        """Gather a run's deliveries into batches; they finish later, each on its own."""
        self._rates.share = self.share() or 1.0
        latest = 0.0
        now = self._clock()
        for index, record in enumerate(run.records):
            if index and index % BREATH == 0:
                await asyncio.sleep(0)
                if self._crew.leaving.is_set() or run.dropped:
                    return
            parcel = self._unpack(run, index, record)
            if parcel is None:
                continue
            # Never longer than the delay, whatever has happened to the clock.
            wait = min(parcel.due - now, self._settings.retry_delay)
            if wait > 0:
                latest = max(latest, wait)
                self._due.put(parcel, wait)
            else:
                self._gather(parcel)
        if latest:
            run.rest()
            self.rest(run.tp, latest)
        await self._producer.wait_for_room()

    async def settle(self, patience: float) -> None:
        """The partitions are about to go: begin nothing more, and wait for what is on its way for so many seconds."""
        self._crew.leaving.set()
        self._breaker.wake()
        self._batches.clear()
        self._due.clear()
        self._aside.clear()
        for queue in self._queues:
            while not queue.empty():
                queue.get_nowait()
        if not await self._crew.rest(self._settlements, patience):
            log.warning("left with requests on their way, which will be repeated", integration=self.integration)

    def resume(self, _: object = None) -> None:
        """The partitions have gone, with all that was put aside; from here on deliveries are new ones."""
        self._crew.leaving.clear()

    def _unpack(self, run: Run, index: int, record: Any) -> Parcel | None:
        """Make a parcel of a record; None if its outcome is already clear. Raises NewerFormatError."""
        try:
            retried = Retried.decode(record.headers) if run.tp[0] == self._retry_topic else None
            delivery = Delivery.decode(record.value)
            size = len(orjson.dumps(delivery.payload))
            parcel = Parcel(delivery, record.key, size, run, index, self._preflight.expiry(delivery.time))
        except NewerFormatError:
            raise
        except RecordError as error:
            log.error("not a delivery", topic=run.tp[0], partition=run.tp[1], offset=record.offset, error=str(error))  # noqa: TRY400
            self._settlements.reject(Unreadable(run, index, record), "not_a_delivery", str(error))
            return None
        except Exception as error:  # noqa: BLE001  # one odd record must not stop the others
            self._settlements.reject_failed(Unreadable(run, index, record), describe(error), error)
            return None
        try:
            if retried:
                parcel.attempts, parcel.due, parcel.since = retried.attempts, retried.due, retried.since
            if parcel.expires <= self._clock():
                self._settlements.settle(parcel, Outcome.EXPIRED)
                return None
            problem = self._preflight.problem(delivery.payload, size)
            if self._shadow:
                detail = f"{problem.reason}: {self._mask(problem.detail)}" if problem else ""
                self._settlements.settle(parcel, Outcome.FILTERED, "shadow" if problem else "", detail)
                return None
            if problem is not None:
                self._bury(parcel, problem)
                return None
        except Exception as error:  # noqa: BLE001  # as above
            self._bury_failed(parcel, error)
            return None
        return parcel

    def _gather(self, parcel: Parcel) -> None:
        try:
            self._batches.add(parcel, self._lane_of(parcel), self._group_of(parcel))
        except Exception as error:  # noqa: BLE001  # a forwarder's mistake, as a group that cannot be hashed
            self._bury_failed(parcel, error)

    def _lane_of(self, parcel: Parcel) -> int:
        if self._lanes == 1:
            return 0
        return (hash(parcel.key) if self._ordered else parcel.run.tp[1]) % self._lanes

    def _group_of(self, parcel: Parcel) -> Any:
        if isinstance(self._forwarder, HttpForwarder):
            return self._forwarder.group(parcel.delivery.payload) if self._limits.items > 1 else None
        return parcel.run.tp

    def _enqueue(self, lane: int, batch: Batch) -> None:
        self._queues[lane].put_nowait(batch)

    async def _deliver(self, batch: Batch) -> None:
        """Bring a batch to its end: all settled or handed on, or put aside since the partition goes."""
        parcels = self._batches.seal(batch)
        try:
            await self._halve(parcels)
        except Exception as error:  # noqa: BLE001  # one odd delivery must not stop the others
            for parcel in parcels:
                if not (parcel.settled or parcel in self._aside):
                    self._bury_failed(parcel, error)

    async def _halve(self, parcels: list[Parcel]) -> None:
        """Send a batch, and smaller parts of it as long as they are refused for their company."""
        bounced = await self._bring(parcels)
        if not bounced.refused:
            return
        halving = Halving(bounced.refused, poisoned=bounced.poisoned)
        while (part := halving.next()) and not self._crew.leaving.is_set():
            bounced = await self._bring(part)
            halving.tell(bounced.refused, dead=bounced.dead)

    async def _bring(self, parcels: list[Parcel]) -> Bounced:
        """Send these together until each is settled, handed on, put aside, or refused for its company."""
        refused: list[Parcel] = []
        dead, poisoned = False, True
        tries, spent = 0, 0.0
        while parcels and (parcels := await self._admit(parcels)):
            began = perf_counter()
            attempt = await self._sender.send(parcels)
            DELIVERY_SECONDS.labels(self.integration, attempt.status).observe(perf_counter() - began)
            self._breaker.hear(attempt.results, attempt.why)
            again: list[Parcel] = []
            asked: list[float | None] = []
            throttled = False
            for parcel, result in zip(parcels, attempt.results, strict=True):
                parcel.attempts += 1
                match result:
                    case Delivered():
                        self._settlements.settle(parcel, Outcome.DELIVERED)
                    case Dead():
                        self._bury(parcel, result, attempt)
                        dead = True
                    case Split() if len(parcels) > 1:
                        refused.append(parcel)
                        poisoned = attempt.answer is None or attempt.answer.status != 413
                    case Split():
                        self._bury(parcel, Dead("too_large", "refused as too large on its own"), attempt)
                        dead = True
                    case Throttled(wanted, "user") if self._pause_user(parcel, wanted):
                        pass
                    case Retry(wanted) | Throttled(wanted):
                        again.append(parcel)
                        asked.append(wanted)
                        throttled |= isinstance(result, Throttled) and result.scope != "user"
                    case Auth():
                        again.append(parcel)
                        asked.append(None)
            if len(again) < len(parcels):
                tries = 0
            parcels = again
            if not parcels:
                break
            DELIVERY_RETRIES.labels(self.integration).inc(len(parcels))
            wait = backoff(self._settings, tries, *asked)
            tries += 1
            if throttled:
                self._rates.pause(wait)
            elif self._breaker.is_open:
                # Its pauses are not this batch's doing, and count for none of its time.
                await self._crew.sleep(wait)
            elif self._may_hand_on and spent + wait > self._settings.retry_in_place:
                if len(parcels) > 1 and any(parcel.since is not None for parcel in parcels):
                    # Failed together, waited, and failed again: perhaps for one among them.
                    return Bounced(refused + parcels, dead, poisoned)
                for parcel in parcels:
                    self._hand_on(parcel, "failing")
                return Bounced(refused, True, poisoned)
            else:
                spent += wait
                await self._crew.sleep(wait)
        return Bounced(refused, dead, poisoned)

    async def _admit(self, parcels: list[Parcel]) -> list[Parcel]:
        """Wait until these may go out together; without those that are too old by then, or whose user must wait.

        None are left once the partition goes.
        """
        if self._rates.knows_users:
            parcels = await self._spare_users(parcels)
        if parcels and (wait := self._rates.wait(len(parcels))):
            await self._crew.sleep(wait)
        while parcels and not self._crew.leaving.is_set():
            if self._preflight.max_age is not None:
                parcels = self._drop_expired(parcels)
            if not parcels or self._breaker.admits():
                return parcels
            await self._breaker.changed()
        return []

    def _drop_expired(self, parcels: list[Parcel]) -> list[Parcel]:
        now = self._clock()
        for parcel in parcels:
            if parcel.expires <= now:
                self._settlements.settle(parcel, Outcome.EXPIRED)
        return [parcel for parcel in parcels if parcel.expires > now]

    async def _spare_users(self, parcels: list[Parcel]) -> list[Parcel]:
        """Those whose users have room; the others wait on the shelf or, where order matters, all wait here."""
        waits = [self._rates.wait_of_user(parcel.key, counts=not parcel.reserved) for parcel in parcels]
        for parcel in parcels:
            parcel.reserved = True
        if self._ordered:
            await self._crew.sleep(max(waits))
            return parcels
        for parcel, wait in zip(parcels, waits, strict=True):
            if wait:
                self._aside.put(parcel, wait)
        return [parcel for parcel, wait in zip(parcels, waits, strict=True) if not wait]

    def _pause_user(self, parcel: Parcel, wanted: float | None) -> bool:
        """The vendor takes nothing more of this user for a while; whether the parcel is seen to, and others go on."""
        wait = backoff(self._settings, 0, wanted)
        self._rates.pause_user(parcel.key, wait)
        if self._ordered:
            return False
        if self._may_hand_on and (wanted or wait) > self._settings.retry_in_place:
            self._hand_on(parcel, "throttled")
        else:
            self._aside.put(parcel, wait)
        return True

    def _hand_on(self, parcel: Parcel, reason: str) -> None:
        now = self._clock()
        since = parcel.since or now
        if now - since > self._settings.retry_for:
            self._bury(parcel, Dead("retries", f"failed for {self._settings.retry_for:.0f} s ({reason})"))
            return
        due = now + self._settings.retry_delay
        self._settlements.hand_on(parcel, Retried(parcel.attempts, due, since, reason))

    def _bury(self, parcel: Parcel, dead: Dead, attempt: Attempt | None = None) -> None:
        request, answer = (attempt.request, attempt.answer) if attempt else (None, None)
        letter = self._letters.write(parcel, dead, request, answer)
        if isinstance(dead, Failed) and dead.error is not None:
            self._settlements.bury_failed(parcel, letter, dead.error)
        else:
            self._settlements.bury(parcel, letter)

    def _bury_failed(self, parcel: Parcel, error: Exception) -> None:
        self._bury(parcel, Failed.by(error))
