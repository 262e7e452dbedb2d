"""Deliver events to one vendor as objects: spool records to disk, encode finished objects, write them."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import structlog

from forwarders.api.contract import Delivered, ObjectForwarder, Result, Retry, Throttled
from streams.delivery.flow.backoff import backoff
from streams.delivery.flow.breaker import Breaker
from streams.delivery.flow.rates import Rates
from streams.delivery.flow.settings import DeliverySettings
from streams.delivery.flow.worker_pool import WorkerPool
from streams.delivery.objects.buffer import ObjectBuffer, ObjectBuffers
from streams.delivery.objects.spool import SpoolClosedError
from streams.delivery.outcomes.dead_letters import DeadLetterFactory, InternalFailure
from streams.delivery.outcomes.masking import Mask
from streams.delivery.outcomes.preflight import Preflight
from streams.delivery.outcomes.writer import OutcomeWriter
from streams.delivery.sinks.object_encoder import EncodeResult, ObjectEncoder
from streams.kafka.offsets import TP, RecordBatch
from streams.kafka.producer import Producer
from streams.observability.logging import error_fields
from streams.records.outcomes import Outcome
from streams.topics import Topics
from streams.worker.guard import Guard

log = structlog.get_logger()

MAX_CONCURRENT_OBJECTS = 2
"""How many objects are worked on: one is packed, which takes the processor, while another is on its way. As many more
wait on disk."""


class ObjectSink:
    """Write the events that were forwarded to one integration as objects.

    A run is finished, and its memory free, once its records are on disk; `objects` knows what of them may be committed.
    `share` is this process's part of the forward topic.
    """

    def __init__(
        self,
        integration: str,
        forwarder: ObjectForwarder[Any],
        settings: DeliverySettings,
        topics: Topics,
        producer: Producer,
        *,
        fail: Callable[[Exception], None],
        clock: Callable[[], float],
    ) -> None:
        self.integration = integration
        self.share: Callable[[], float] = lambda: 1.0
        self._forwarder = forwarder
        self._settings = settings
        self._guard = Guard(integration, fail)
        self._blocked = False
        limits = forwarder.limits
        self.objects = ObjectBuffers(forwarder.rotation_key, limits.bytes, settings.spool)
        self._encoder = ObjectEncoder(forwarder, Preflight(forwarder, limits, settings.max_age), clock)
        self._rates = Rates.of(forwarder.contract, settings)
        self._breaker = Breaker(integration, settings.breaker_failures, settings.backoff_min, settings.backoff_max)
        self._writer = OutcomeWriter(integration, topics, producer, self._guard)
        self._dead_letters = DeadLetterFactory(integration, Mask(forwarder.settings), clock)
        self._at_once = min(settings.concurrency, MAX_CONCURRENT_OBJECTS)
        self._ended: asyncio.Queue[ObjectBuffer] = asyncio.Queue(self._at_once)
        self._packing = asyncio.Lock()
        self._pool = WorkerPool(self._store, fail)
        self._backing_off: set[asyncio.Task[None]] = set()
        self._breaker.before_probe = self._hurry

    async def start(self) -> None:
        """Make the folder where records wait, and start the workers."""
        self._settings.spool.mkdir(parents=True, exist_ok=True)
        await self._forwarder.open()
        self._pool.start([self._ended], self._at_once)

    async def stop(self) -> None:
        """End the workers, and close what was opened."""
        self._guard.drop()
        await self._pool.stop()
        self._breaker.close()
        self.objects.drop(self.objects.partitions())
        await self._forwarder.close()

    def waits(self) -> bool:
        """Whether an object is on its way, backs off or waits for the vendor or for room on disk: none is a stall."""
        return self._pool.busy > 0 or self._blocked or self._breaker.is_held

    @property
    def vendor(self) -> Breaker:
        """Whether objects are written."""
        return self._breaker

    async def work(self, run: RecordBatch) -> None:
        """Put a run's records on disk, and the objects that end with them into the queue, as soon as it has room."""
        self._rates.share = self.share() or 1.0
        for record in run.records:
            ended = await self._keep(run, record)
            if ended is not None:
                await self._ended.put(ended)
            if self._pool.leaving.is_set() or run.dropped:
                return
        run.finish()

    async def _keep(self, run: RecordBatch, record: Any) -> ObjectBuffer | None:
        """Put a record on disk, as soon as the disk takes it; returns the object that ended before it, if one did."""
        tries = 0
        while not (self._pool.leaving.is_set() or run.dropped):
            try:
                return self.objects.put(run.tp, record)
            except OSError as error:
                await self._wait_for_disk(error, tries)
                tries += 1
        return None

    async def _wait_for_disk(self, error: OSError, tries: int) -> None:
        log.error(
            "cannot use the folder `delivery.spool`; trying again",
            integration=self.integration,
            folder=str(self._settings.spool),
            error=error.strerror,
        )
        self._blocked = True
        await self._pool.sleep(backoff(self._settings, tries, None))
        self._blocked = False

    async def settle(self, patience: float) -> None:
        """The partitions are about to go: begin nothing more, and wait for what is on its way for so many seconds."""
        self._pool.leaving.set()
        self._breaker.wake()
        while not self._ended.empty():
            self._ended.get_nowait()
        if not await self._pool.rest(self._writer, patience):
            log.warning("left with objects on their way, which will be repeated", integration=self.integration)

    def resume(self, revoked: Iterable[TP]) -> None:
        """The partitions have gone, with all that waited on disk; from here on objects are new ones."""
        self.objects.drop(revoked)
        self._pool.leaving.clear()

    async def _store(self, ended: ObjectBuffer) -> None:
        """Write an object, again and again until it is taken or its partition goes."""
        await self._pack(ended)
        tries = 0
        while ended.rows and not (self._pool.leaving.is_set() or ended.dropped):
            if not self._breaker.allows():
                await self._breaker.changed()
                continue
            if wait := self._rates.wait(1):
                await self._pool.sleep(wait)
                if self._pool.leaving.is_set() or ended.dropped:
                    self._breaker.give_back()
                    return
                if self._breaker.is_held:
                    self._breaker.give_back()
                    continue
            result = await self._put(ended)
            self._breaker.record_results([result])
            if isinstance(result, Delivered):
                self._writer.settle_rows(ended)
                return
            asked = result.after if isinstance(result, Retry | Throttled) else None
            await self._back_off(backoff(self._settings, tries, asked))
            tries += 1

    async def _back_off(self, seconds: float) -> None:
        """Wait, or until the partitions go, or somebody asks for a probe."""
        sleeping = asyncio.create_task(self._pool.sleep(seconds))
        self._backing_off.add(sleeping)
        try:
            await asyncio.wait([sleeping])
        finally:
            self._backing_off.discard(sleeping)
            sleeping.cancel()

    def _hurry(self) -> None:
        for sleeping in self._backing_off:
            sleeping.cancel()

    async def _pack(self, ended: ObjectBuffer) -> None:
        """Make an object's content; what is no row of it is settled."""
        packed = await self._read_and_pack(ended)
        if packed is None:
            return
        self._writer.count_passed(sum(map(len, ended.rows.values())))
        for unreadable, detail, error in packed.unreadable:
            if error is None:
                log.error(
                    "not a delivery",
                    topic=ended.tp[0],
                    partition=ended.tp[1],
                    offset=unreadable.record.offset,
                    error=detail,
                )
                self._writer.reject(unreadable, "not_a_delivery", detail)
            else:
                self._writer.reject_failed(unreadable, detail, error)
        for pending, verdict in packed.others:
            if isinstance(verdict, Outcome):
                self._writer.settle(pending, verdict)
            else:
                letter = self._dead_letters.write(pending, verdict, None, None)
                if isinstance(verdict, InternalFailure) and verdict.error is not None:
                    self._writer.dead_letter_internal(pending, letter, verdict.error)
                else:
                    self._writer.dead_letter(pending, letter)

    async def _read_and_pack(self, ended: ObjectBuffer) -> EncodeResult | None:
        """Pack an object, as soon as the disk gives it back; returns None if it is not wanted any more."""
        tries = 0
        while not (self._pool.leaving.is_set() or ended.dropped):
            try:
                async with self._packing:
                    return await asyncio.to_thread(self._encoder.pack, ended)
            except SpoolClosedError:
                break
            except OSError as error:
                await self._wait_for_disk(error, tries)
                tries += 1
        return None

    async def _put(self, packed: ObjectBuffer) -> Result:
        try:
            return await self._forwarder.put(packed.content, packed.offsets)
        except Exception as error:  # noqa: BLE001  # a full disk or a lost network: waits, and goes on
            log.warning("could not write", integration=self.integration, **error_fields(error))
            self._breaker.note_answer(None, f"could not write: {type(error).__name__}")
            return Retry()
