"""Deliver events to one vendor as objects: spool records to disk, encode finished objects, write them."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import structlog

from forwarders.api.contract import Delivered, ObjectForwarder, PermanentFailure, Result, Retry, Throttled
from streams.delivery.flow.backoff import backoff
from streams.delivery.flow.breaker import Breaker
from streams.delivery.flow.rates import Rates
from streams.delivery.flow.settings import DeliverySettings
from streams.delivery.flow.worker_pool import WorkerPool
from streams.delivery.objects.buffer import ObjectBuffer, ObjectBuffers
from streams.delivery.objects.spool import SpoolClosedError
from streams.delivery.objects.upload import ObjectUpload
from streams.delivery.outcomes.dead_letters import DeadLetterFactory
from streams.delivery.outcomes.masking import Mask
from streams.delivery.outcomes.preflight import Preflight
from streams.delivery.outcomes.writer import OutcomeWriter
from streams.delivery.sinks.object_encoder import EncodedPart, ObjectEncoder
from streams.kafka.offsets import TP, RecordBatch
from streams.kafka.producer import Producer
from streams.observability.internal_error import to_exception
from streams.observability.logging import error_fields
from streams.records.outcomes import Outcome
from streams.topics import Topics
from streams.worker.guard import Guard

log = structlog.get_logger()

MAX_CONCURRENT_OBJECTS = 2
"""Objects in progress: one is encoded, which needs the CPU, while another is uploaded."""

MAX_UNSTORED_OBJECTS = 8
"""Objects that are complete, but not stored: those in progress, and others on disk. With more, nothing is fetched."""


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
        self._room = asyncio.Semaphore(MAX_UNSTORED_OBJECTS)
        self._queue: asyncio.Queue[ObjectUpload] = asyncio.Queue()
        self._backing_off: dict[ObjectUpload, asyncio.TimerHandle] = {}
        self._encoding = asyncio.Lock()
        self._pool = WorkerPool(self._store, fail)

    async def start(self) -> None:
        """Create the folder where records wait, and start the workers."""
        self._settings.spool.mkdir(parents=True, exist_ok=True)
        await self._forwarder.open()
        self._pool.start([self._queue], self._at_once)

    async def stop(self) -> None:
        """Stop the workers, and close connections and files."""
        self._guard.drop()
        await self._pool.stop()
        self._breaker.close()
        self._discard_waiting()
        self.objects.drop(self.objects.partitions())
        await self._forwarder.close()

    def waits(self) -> bool:
        """Return whether an object is in progress, or waits for the vendor or for disk space; neither is a stall."""
        return bool(self._pool.busy or self._backing_off or self._blocked or self._breaker.is_held)

    @property
    def vendor(self) -> Breaker:
        """Return the breaker, which pauses delivery."""
        return self._breaker

    async def work(self, fetched: RecordBatch) -> None:
        """Write records to disk, and queue the objects that end with them as soon as there is room."""
        self._rates.share = self._share() or 1.0
        for record in fetched.records:
            ended = await self._keep(fetched, record)
            if ended is not None:
                await self._room.acquire()
                self._queue.put_nowait(ObjectUpload(ended))
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
        self._discard_waiting()
        if not await self._pool.wait_until_idle(self._writer, seconds):
            log.warning("stopped with objects in progress; they will be written again", integration=self.integration)

    def _discard_waiting(self) -> None:
        """Discard the objects that are not in progress."""
        self._end_back_off()
        while not self._queue.empty():
            self._queue.get_nowait()
            self._room.release()

    def resume(self, revoked: Iterable[TP]) -> None:
        """Discard the records of the revoked partitions, and start again."""
        self.objects.drop(revoked)
        self._pool.leaving.clear()

    async def _store(self, upload: ObjectUpload) -> None:
        """Store the parts of an object that are left; if one fails, try it again after others."""
        while upload.parts and not self._is_stopped(upload):
            encoded = await self._encode(upload)
            if encoded is None:
                break
            if not encoded.rows:
                upload.parts.pop()
            elif not await self._wait_for_turn(upload):
                break
            elif wait := await self._store_part(upload, encoded):
                self._backing_off[upload] = asyncio.get_running_loop().call_later(wait, self._try_again, upload)
                return
        upload.ended.spool.close()
        self._room.release()

    def _is_stopped(self, upload: ObjectUpload) -> bool:
        return self._pool.leaving.is_set() or upload.ended.dropped

    async def _wait_for_turn(self, upload: ObjectUpload) -> bool:
        """Wait until a request may be sent; return False if the partition is revoked."""
        while not self._is_stopped(upload):
            if not self._breaker.allows():
                await self._breaker.changed()
                continue
            wait = self._rates.wait(1)
            if not wait:
                return True
            await self._pool.sleep(wait)
            if not self._is_stopped(upload) and not self._breaker.is_held:
                return True
            self._breaker.give_back()
        return False

    async def _store_part(self, upload: ObjectUpload, encoded: EncodedPart) -> float:
        """Store a part of an object; return 0, or the seconds after which to try it again."""
        probe = self._breaker.is_open
        self._breaker.sent = number = self._breaker.sent + 1
        upload.tries += 1
        result = await self._put(encoded)
        others_pass = upload.failures > 0 and self._breaker.delivered > upload.last
        match result:
            case Delivered():
                self._breaker.record_results([result], number=number, probe=probe)
                self._writer.settle_rows(upload.ended, encoded.rows, encoded.left_out, upload.tries)
                upload.stored()
                return 0
            case PermanentFailure() if upload.poison or others_pass:
                upload.poison = True
                self._breaker.record_results([result], number=number, probe=probe)
                upload.divide(sum(map(len, encoded.rows.values())), result)
                return 0
            case PermanentFailure():
                self._breaker.note_answer(None, f"refused: {result.reason}")
        asked = result.after if isinstance(result, Retry | Throttled) else None
        wait = backoff(self._settings, upload.failures, asked)
        self._breaker.record_results(
            [Retry() if isinstance(result, PermanentFailure) else result],
            number=number,
            probe=probe,
            suspect=others_pass,
            again=upload.failures > 0,
            comparable=self._pool.busy > 1 or bool(self._backing_off) or not self._queue.empty(),
        )
        upload.failures += 1
        upload.last = self._breaker.sent
        if others_pass:
            upload.spent += wait
        if upload.spent > self._settings.retry_for:
            upload.refuse(PermanentFailure("retries", f"failed for {upload.spent:.0f} s"))
            return 0
        return wait

    def _try_again(self, upload: ObjectUpload) -> None:
        del self._backing_off[upload]
        self._queue.put_nowait(upload)

    def _end_back_off(self) -> None:
        for upload, timer in list(self._backing_off.items()):
            timer.cancel()
            self._try_again(upload)

    async def _encode(self, upload: ObjectUpload) -> EncodedPart | None:
        """Encode the next part of an object, and settle the records left out; return None if it was revoked."""
        encoded = await self._read_and_encode(upload)
        if encoded is None:
            return None
        if not upload.counted:
            upload.counted = True
            self._writer.count_passed(sum(map(len, encoded.rows.values())))
        for unreadable, detail, error in encoded.unreadable:
            if error is None:
                log.error(
                    "not a delivery",
                    topic=encoded.offsets.topic,
                    partition=encoded.offsets.partition,
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
        return encoded

    async def _read_and_encode(self, upload: ObjectUpload) -> EncodedPart | None:
        """Read and encode a part of an object, again if the disk fails; return None if its partition was revoked."""
        tries = 0
        while not self._is_stopped(upload):
            try:
                async with self._encoding:
                    return await asyncio.to_thread(self._encoder.encode, upload)
            except SpoolClosedError:
                break
            except OSError as error:
                await self._wait_for_disk(error, tries)
                tries += 1
        return None

    async def _put(self, encoded: EncodedPart) -> Result:
        try:
            return await self._forwarder.put(encoded.content, encoded.offsets)
        except BaseException as error:  # noqa: BLE001  # a full disk or a lost network: retry
            log.warning("write failed", integration=self.integration, **error_fields(to_exception(error)))
            self._breaker.note_answer(None, f"could not write: {type(error).__name__}")
            return Retry()
