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
from streams.delivery.outcomes.dead_letters import DeadLetterFactory
from streams.delivery.outcomes.masking import Mask
from streams.delivery.outcomes.preflight import Preflight
from streams.delivery.outcomes.writer import OutcomeWriter
from streams.delivery.sinks.object_encoder import EncodeResult, ObjectEncoder
from streams.kafka.offsets import TP, RecordBatch
from streams.kafka.producer import Producer
from streams.observability.internal_error import to_exception
from streams.observability.logging import error_fields
from streams.records.outcomes import Outcome
from streams.topics import Topics
from streams.worker.guard import Guard

log = structlog.get_logger()

MAX_CONCURRENT_OBJECTS = 2
"""Objects in progress: one is encoded, which needs the CPU, while another is uploaded. As many more wait on disk."""


class ObjectSink:
    """Write the events that were forwarded to one integration as objects.

    A fetched batch is finished, and its memory free, once its records are on disk; `objects` tracks which offsets may
    be committed. `share` returns this process's part of the forward topic's partitions.
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
        share: Callable[[], float] = lambda: 1.0,
    ) -> None:
        self.integration = integration
        self._share = share
        self._forwarder = forwarder
        self._settings = settings
        self._guard = Guard(integration, fail)
        self._blocked = False
        limits = forwarder.limits
        self.objects = ObjectBuffers(forwarder.rotation_key, limits.bytes, settings.spool)
        self._encoder = ObjectEncoder(forwarder, Preflight(forwarder, limits, settings.max_age), clock)
        self._rates = Rates.of(forwarder.contract, settings)
        self._breaker = Breaker(
            integration,
            settings.breaker_failures,
            settings.backoff_min,
            settings.backoff_max,
            on_probe=self._end_back_off,
        )
        dead_letters = DeadLetterFactory(integration, Mask(forwarder.settings), clock)
        self._writer = OutcomeWriter(integration, topics, producer, self._guard, dead_letters)
        self._at_once = min(settings.concurrency, MAX_CONCURRENT_OBJECTS)
        self._ended: asyncio.Queue[ObjectBuffer] = asyncio.Queue(self._at_once)
        self._encoding = asyncio.Lock()
        self._pool = WorkerPool(self._store, fail)
        self._backing_off: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Create the folder where records wait, and start the workers."""
        self._settings.spool.mkdir(parents=True, exist_ok=True)
        await self._forwarder.open()
        self._pool.start([self._ended], self._at_once)

    async def stop(self) -> None:
        """Stop the workers, and close connections and files."""
        self._guard.drop()
        await self._pool.stop()
        self._breaker.close()
        self.objects.drop(self.objects.partitions())
        await self._forwarder.close()

    def waits(self) -> bool:
        """Return whether an object is in progress, or waits for the vendor or for disk space; neither is a stall."""
        return self._pool.busy > 0 or self._blocked or self._breaker.is_held

    @property
    def vendor(self) -> Breaker:
        """Return the breaker, which pauses delivery."""
        return self._breaker

    async def work(self, fetched: RecordBatch) -> None:
        """Write records to disk, and queue the objects that end with them as soon as the queue has room."""
        self._rates.share = self._share() or 1.0
        for record in fetched.records:
            ended = await self._keep(fetched, record)
            if ended is not None:
                await self._ended.put(ended)
            if self._pool.leaving.is_set() or fetched.dropped:
                return
        fetched.finish()

    async def _keep(self, fetched: RecordBatch, record: Any) -> ObjectBuffer | None:
        """Write a record to disk, again if that fails; return the object that ended before it, if any."""
        tries = 0
        while not (self._pool.leaving.is_set() or fetched.dropped):
            try:
                return self.objects.put(fetched.tp, record)
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

    async def settle(self, seconds: float) -> None:
        """Start no more objects, because the partitions are about to be revoked; wait for those in progress."""
        self._pool.leaving.set()
        self._breaker.wake()
        while not self._ended.empty():
            self._ended.get_nowait()
        if not await self._pool.wait_until_idle(self._writer, seconds):
            log.warning("stopped with objects in progress; they will be written again", integration=self.integration)

    def resume(self, revoked: Iterable[TP]) -> None:
        """Discard the records of the revoked partitions, and start again."""
        self.objects.drop(revoked)
        self._pool.leaving.clear()

    async def _store(self, ended: ObjectBuffer) -> None:
        """Write an object, with retries until it is stored or its partition is revoked."""
        await self._encode(ended)
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
                self._writer.settle_rows(ended, tries + 1)
                return
            asked = result.after if isinstance(result, Retry | Throttled) else None
            await self._back_off(backoff(self._settings, tries, asked))
            tries += 1

    async def _back_off(self, seconds: float) -> None:
        """Wait until the time is over, the partitions are revoked, or a command asks for a probe."""
        sleeping = asyncio.create_task(self._pool.sleep(seconds))
        self._backing_off.add(sleeping)
        try:
            await asyncio.wait([sleeping])
        finally:
            self._backing_off.discard(sleeping)
            sleeping.cancel()

    def _end_back_off(self) -> None:
        for sleeping in self._backing_off:
            sleeping.cancel()

    async def _encode(self, ended: ObjectBuffer) -> None:
        """Encode an object, and settle the records that are not in it."""
        encoded = await self._read_and_encode(ended)
        if encoded is None:
            return
        self._writer.count_passed(sum(map(len, ended.rows.values())))
        for unreadable, detail, error in encoded.unreadable:
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
        for pending, verdict in encoded.others:
            if isinstance(verdict, Outcome):
                self._writer.settle(pending, verdict)
            else:
                self._writer.dead_letter(pending, verdict)

    async def _read_and_encode(self, ended: ObjectBuffer) -> EncodeResult | None:
        """Read and encode an object, again if the disk fails; return None if its partition was revoked."""
        tries = 0
        while not (self._pool.leaving.is_set() or ended.dropped):
            try:
                async with self._encoding:
                    return await asyncio.to_thread(self._encoder.encode, ended)
            except SpoolClosedError:
                break
            except OSError as error:
                await self._wait_for_disk(error, tries)
                tries += 1
        return None

    async def _put(self, encoded: ObjectBuffer) -> Result:
        try:
            return await self._forwarder.put(encoded.content, encoded.offsets)
        except BaseException as error:  # noqa: BLE001  # a full disk or a lost network: retry
            log.warning("write failed", integration=self.integration, **error_fields(to_exception(error)))
            self._breaker.note_answer(None, f"could not write: {type(error).__name__}")
            return Retry()
