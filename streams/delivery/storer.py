"""The sink agent of an integration that takes whole objects: keep records on disk, pack what has ended, write it."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import structlog

from forwarders.contract import Delivered, ObjectForwarder, Result, Retry, Throttled
from streams.delivery.backoff import backoff
from streams.delivery.breaker import Breaker
from streams.delivery.crew import Crew
from streams.delivery.letters import Failed, Letters
from streams.delivery.masking import Mask
from streams.delivery.objects import Objects, StoredObject
from streams.delivery.packing import Packed, Packer
from streams.delivery.preflight import Preflight
from streams.delivery.rates import Rates
from streams.delivery.settlement import Settlements
from streams.delivery.spool import SpoolClosedError
from streams.guard import Guard
from streams.logs import trouble
from streams.produce import Producer
from streams.progress import TP, Run
from streams.settings import DeliverySettings
from streams.topics import Outcome, Topics

log = structlog.get_logger()

AT_ONCE = 2
"""How many objects are worked on: one is packed, which takes the processor, while another is on its way. As many more
wait on disk."""


class Storer:
    """Stores what one integration was forwarded.

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
        self.objects = Objects(forwarder.rotation_key, limits.bytes, settings.spool)
        self._packer = Packer(forwarder, Preflight(forwarder, limits, settings.max_age), clock)
        self._rates = Rates.of(forwarder.contract, settings)
        self._breaker = Breaker(integration, settings.breaker_failures, settings.backoff_min, settings.backoff_max)
        self._settlements = Settlements(integration, topics, producer, self._guard)
        self._letters = Letters(integration, Mask(forwarder.settings), clock)
        self._at_once = min(settings.concurrency, AT_ONCE)
        self._ended: asyncio.Queue[StoredObject] = asyncio.Queue(self._at_once)
        self._packing = asyncio.Lock()
        self._crew = Crew(self._store, fail)

    async def start(self) -> None:
        """Make the folder where records wait, and start the workers."""
        self._settings.spool.mkdir(parents=True, exist_ok=True)
        await self._forwarder.open()
        self._crew.start([self._ended], self._at_once)

    async def stop(self) -> None:
        """End the workers, and close what was opened."""
        self._guard.drop()
        await self._crew.stop()
        self._breaker.close()
        self.objects.drop(self.objects.partitions())
        await self._forwarder.close()

    def waits(self) -> bool:
        """Whether an object is on its way, backs off or waits for the vendor or for room on disk: none is a stall."""
        return self._crew.busy > 0 or self._blocked

    async def work(self, run: Run) -> None:
        """Put a run's records on disk, and the objects that end with them into the queue, as soon as it has room."""
        self._rates.share = self.share() or 1.0
        for record in run.records:
            ended = await self._keep(run, record)
            if ended is not None:
                await self._ended.put(ended)
            if self._crew.leaving.is_set() or run.dropped:
                return
        run.finish()

    async def _keep(self, run: Run, record: Any) -> StoredObject | None:
        """Put a record on disk, as soon as the disk takes it; returns the object that ended before it, if one did."""
        tries = 0
        while not (self._crew.leaving.is_set() or run.dropped):
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
        await self._crew.sleep(backoff(self._settings, tries, None))
        self._blocked = False

    async def settle(self, patience: float) -> None:
        """The partitions are about to go: begin nothing more, and wait for what is on its way for so many seconds."""
        self._crew.leaving.set()
        self._breaker.wake()
        while not self._ended.empty():
            self._ended.get_nowait()
        if not await self._crew.rest(self._settlements, patience):
            log.warning("left with objects on their way, which will be repeated", integration=self.integration)

    def resume(self, revoked: Iterable[TP]) -> None:
        """The partitions have gone, with all that waited on disk; from here on objects are new ones."""
        self.objects.drop(revoked)
        self._crew.leaving.clear()

    async def _store(self, ended: StoredObject) -> None:
        """Write an object, again and again until it is taken or its partition goes."""
        await self._pack(ended)
        tries = 0
        while ended.rows and not (self._crew.leaving.is_set() or ended.dropped):
            if not self._breaker.admits():
                await self._breaker.changed()
                continue
            if wait := self._rates.wait(1):
                await self._crew.sleep(wait)
                if self._crew.leaving.is_set() or ended.dropped:
                    self._breaker.give_back()
                    return
            result = await self._put(ended)
            self._breaker.hear([result])
            if isinstance(result, Delivered):
                self._settlements.settle_rows(ended)
                return
            asked = result.after if isinstance(result, Retry | Throttled) else None
            await self._crew.sleep(backoff(self._settings, tries, asked))
            tries += 1

    async def _pack(self, ended: StoredObject) -> None:
        """Make an object's content; what is no row of it is settled."""
        packed = await self._read_and_pack(ended)
        if packed is None:
            return
        self._settlements.count_passed(sum(map(len, ended.rows.values())))
        for unreadable, detail, error in packed.unreadable:
            if error is None:
                log.error(
                    "not a delivery",
                    topic=ended.tp[0],
                    partition=ended.tp[1],
                    offset=unreadable.record.offset,
                    error=detail,
                )
                self._settlements.reject(unreadable, "not_a_delivery", detail)
            else:
                self._settlements.reject_failed(unreadable, detail, error)
        for parcel, verdict in packed.others:
            if isinstance(verdict, Outcome):
                self._settlements.settle(parcel, verdict)
            else:
                letter = self._letters.write(parcel, verdict, None, None)
                if isinstance(verdict, Failed) and verdict.error is not None:
                    self._settlements.bury_failed(parcel, letter, verdict.error)
                else:
                    self._settlements.bury(parcel, letter)

    async def _read_and_pack(self, ended: StoredObject) -> Packed | None:
        """Pack an object, as soon as the disk gives it back; returns None if it is not wanted any more."""
        tries = 0
        while not (self._crew.leaving.is_set() or ended.dropped):
            try:
                async with self._packing:
                    return await asyncio.to_thread(self._packer.pack, ended)
            except SpoolClosedError:
                break
            except OSError as error:
                await self._wait_for_disk(error, tries)
                tries += 1
        return None

    async def _put(self, packed: StoredObject) -> Result:
        try:
            return await self._forwarder.put(packed.content, packed.offsets)
        except Exception as error:  # noqa: BLE001  # a full disk or a lost network: waits, and goes on
            log.warning("could not write", integration=self.integration, **trouble(error))
            return Retry()
