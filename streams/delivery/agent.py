"""The sink agent of one integration: batch, send, read the answer, try again or give up."""

import asyncio
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import structlog
from pydantic import BaseModel, SecretStr

from forwarders.contract import (
    Answer,
    Auth,
    Coordinates,
    Dead,
    Delivered,
    Forwarder,
    HttpForwarder,
    Item,
    Request,
    Result,
    Retry,
    Split,
    Throttled,
    WriterForwarder,
    by_status,
)
from streams.delivery.client import Client, UnreachableError, UnsendableError
from streams.delivery.parcels import Batches, Parcel
from streams.delivery.settlement import Settlements
from streams.events import rfc3339
from streams.logs import trouble
from streams.produce import Producer
from streams.progress import Run
from streams.settings import DeliverySettings
from streams.topics import DeadLetter, Delivery, NewerFormatError, Outcome, RecordError, Topics

log = structlog.get_logger()

QUOTED_BYTES = 4096
"""How much of a vendor's answer a dead letter keeps."""


class Deliverer:
    """Delivers what one integration was forwarded.

    Unordered, any worker takes the next batch. Ordered, each lane (a hash of the key) has one worker: one batch of it
    is on its way at a time, and a lane holds while its head retries.
    """

    def __init__(
        self,
        integration: str,
        forwarder: Forwarder[Any],
        settings: DeliverySettings,
        topics: Topics,
        producer: Producer,
        clock: Callable[[], float],
    ) -> None:
        contract = forwarder.contract
        self.integration = integration
        self._forwarder = forwarder
        self._settings = settings
        self._topics = topics
        self._producer = producer
        self._clock = clock
        self._ordered = contract.ordered if settings.ordered is None else settings.ordered
        self._lanes = settings.concurrency if self._ordered or isinstance(forwarder, WriterForwarder) else 1
        self._queues: list[asyncio.Queue[list[Parcel]]] = [asyncio.Queue() for _ in range(self._lanes)]
        limits = forwarder.limits
        self._limits = replace(limits, items=min(limits.items, settings.items or limits.items))
        self._batches = Batches(self._limits, settings.linger, self._enqueue)
        self._settlements = Settlements(integration, topics, producer)
        self._client = Client(settings.concurrency, settings.timeout)
        # The longest first, since one may contain another.
        self._secrets = sorted(_secrets(forwarder.settings), key=len, reverse=True)
        self._workers: list[asyncio.Task[None]] = []
        self._busy = 0
        self._at_rest = asyncio.Event()
        self._at_rest.set()
        self._leaving = asyncio.Event()

    async def start(self) -> None:
        """Open connections or files, and start the workers."""
        await self._client.open()
        if isinstance(self._forwarder, WriterForwarder):
            await self._forwarder.open()
        loop = asyncio.get_running_loop()
        self._workers = [
            loop.create_task(self._take(self._queues[number % self._lanes]))
            for number in range(self._settings.concurrency)
        ]

    async def stop(self) -> None:
        """End the workers, and close what was opened."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        if isinstance(self._forwarder, WriterForwarder):
            await self._forwarder.close()
        await self._client.close()

    def waits(self) -> bool:
        """Whether a request is on its way or backs off: both are bounded, and no stall."""
        return self._busy > 0

    async def work(self, run: Run) -> None:
        """Gather a run's deliveries into batches; they finish later, each on its own."""
        for index, record in enumerate(run.records):
            parcel = self._unpack(run, index, record)
            if parcel is not None:
                self._batches.add(parcel, self._lane_of(parcel), self._group_of(parcel))
        await self._producer.wait_for_room()

    async def settle(self, patience: float) -> None:
        """The partitions are about to go: begin nothing more, and wait for what is on its way for so many seconds."""
        self._leaving.set()
        self._batches.clear()
        for queue in self._queues:
            while not queue.empty():
                queue.get_nowait()
        try:
            async with asyncio.timeout(patience):
                await self._at_rest.wait()
                await self._settlements.wait_until_idle()
        except TimeoutError:
            log.warning("left with requests on their way, which will be repeated", integration=self.integration)

    def resume(self, _: object = None) -> None:
        """The partitions have gone, with all that was put aside; from here on deliveries are new ones."""
        self._leaving.clear()

    def _unpack(self, run: Run, index: int, record: Any) -> Parcel | None:
        try:
            delivery = Delivery.decode(record.value)
            item = Item(delivery.id, delivery.payload, delivery.type, delivery.event, delivery.time)
        except NewerFormatError:
            raise
        except RecordError as error:
            log.error("not a delivery", topic=run.tp[0], partition=run.tp[1], offset=record.offset, error=str(error))  # noqa: TRY400
            run.finish_record(index)
            return None
        parcel = Parcel(delivery, item, record.key, len(record.value), run, index)
        problem = self._problem(parcel)
        if problem is not None:
            self._bury(parcel, problem)
            return None
        return parcel

    def _problem(self, parcel: Parcel) -> Dead | None:
        """What is wrong with a payload, found before it could spoil a batch."""
        if parcel.size > self._limits.item_bytes + 2048:
            return Dead("too_large", f"{parcel.size} bytes are more than the vendor takes ({self._limits.item_bytes})")
        complaint = self._forwarder.contract.complaint(parcel.item.payload)
        return Dead("payload", complaint) if complaint else None

    def _lane_of(self, parcel: Parcel) -> int:
        if self._lanes == 1:
            return 0
        return (hash(parcel.key) if self._ordered else parcel.run.tp[1]) % self._lanes

    def _group_of(self, parcel: Parcel) -> Any:
        if isinstance(self._forwarder, HttpForwarder):
            return self._forwarder.group(parcel.item.payload) if self._limits.items > 1 else None
        return parcel.run.tp

    def _enqueue(self, lane: int, parcels: list[Parcel]) -> None:
        self._queues[lane].put_nowait(parcels)

    async def _take(self, queue: "asyncio.Queue[list[Parcel]]") -> None:
        while True:
            parcels = await queue.get()
            self._busy += 1
            self._at_rest.clear()
            try:
                await self._deliver(parcels)
            finally:
                self._busy -= 1
                if not self._busy:
                    self._at_rest.set()

    async def _deliver(self, parcels: list[Parcel]) -> None:
        """Bring a batch to its end: all delivered or dead, or put aside since the partition goes."""
        attempt = 0
        while parcels and not self._leaving.is_set():
            results, request, answer = await self._attempt(parcels)
            again: list[Parcel] = []
            smaller: list[Parcel] = []
            after: float | None = None
            for parcel, result in zip(parcels, results, strict=True):
                parcel.attempts += 1
                match result:
                    case Delivered():
                        self._settlements.settle(parcel, Outcome.DELIVERED)
                    case Dead():
                        self._bury(parcel, result, request, answer)
                    case Split() if len(parcels) > 1:
                        smaller.append(parcel)
                    case Split():
                        self._bury(parcel, Dead("too_large", "refused as too large on its own"), request, answer)
                    case Retry(wanted) | Throttled(wanted):
                        again.append(parcel)
                        after = max(after or 0.0, wanted or 0.0)
                    case Auth():
                        again.append(parcel)
                        log.error("the vendor refuses the credentials", integration=self.integration)
            if smaller:
                half = (len(smaller) + 1) // 2
                await self._deliver(smaller[:half])
                await self._deliver(smaller[half:])
            parcels = again
            if parcels:
                await self._back_off(attempt, after)
                attempt += 1

    async def _attempt(self, parcels: Sequence[Parcel]) -> tuple[Sequence[Result], Request | None, Answer | None]:
        items = [parcel.item for parcel in parcels]
        forwarder = self._forwarder
        if isinstance(forwarder, WriterForwarder):
            return await self._write(forwarder, parcels, items), None, None
        assert isinstance(forwarder, HttpForwarder)
        request: Request | None = None
        try:
            request = forwarder.request(items)
            answer = await self._client.send(request)
        except UnreachableError as error:
            log.warning("no answer", integration=self.integration, error=str(error))
            return [Retry()] * len(items), request, None
        except UnsendableError as error:
            return [Dead("request", str(error)) if len(items) == 1 else Split()] * len(items), request, None
        except Exception as error:  # noqa: BLE001  # a forwarder's mistake costs its delivery, not the worker
            log.error("the forwarder failed to make a request", integration=self.integration, **trouble(error))  # noqa: TRY400
            wrong: Result = Dead("forwarder", type(error).__name__) if len(items) == 1 else Split()
            return [wrong] * len(items), None, None
        try:
            results = forwarder.read(answer, items)
            if len(results) == len(items):
                return results, request, answer
            log.error("the forwarder read another number of results", integration=self.integration)
        except Exception as error:  # noqa: BLE001  # as above: the status says enough
            log.error("the forwarder failed to read an answer", integration=self.integration, **trouble(error))  # noqa: TRY400
        return [by_status(answer)] * len(items), request, answer

    async def _write(
        self, forwarder: WriterForwarder[Any], parcels: Sequence[Parcel], items: Sequence[Item]
    ) -> Sequence[Result]:
        topic, partition = parcels[0].run.tp
        offsets = [parcel.run.records[parcel.index].offset for parcel in parcels]
        try:
            return await forwarder.write(items, Coordinates(topic, partition, offsets[0], offsets[-1]))
        except Exception as error:  # noqa: BLE001  # a full disk or a lost database: waits, and goes on
            log.warning("could not write", integration=self.integration, **trouble(error))
            return [Retry()] * len(items)

    async def _back_off(self, attempt: int, after: float | None) -> None:
        settings = self._settings
        bound = min(settings.backoff_max, settings.backoff_min * 2 ** min(attempt, 30))
        seconds = max(random.uniform(0, bound), min(after or 0.0, settings.backoff_max))  # noqa: S311
        try:
            await asyncio.wait_for(self._leaving.wait(), seconds)
        except TimeoutError:
            return

    def _bury(self, parcel: Parcel, dead: Dead, request: Request | None = None, answer: Answer | None = None) -> None:
        letter = DeadLetter(
            self.integration,
            parcel.delivery.data(),
            dead.reason,
            self._mask(dead.detail),
            parcel.attempts,
            rfc3339(self._clock()),
            self._masked(request) if request else None,
            {"status": answer.status, "body": answer.body[:QUOTED_BYTES].decode(errors="replace")} if answer else None,
        )
        self._settlements.bury(parcel, letter.encode(), dead.reason, self._mask(dead.detail))

    def _masked(self, request: Request) -> Mapping[str, Any]:
        return {
            "method": request.method,
            "url": self._mask(request.url),
            "headers": {
                name: "***" if name.lower() == "authorization" else self._mask(value)
                for name, value in request.headers.items()
            },
        }

    def _mask(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def _secrets(settings: BaseModel) -> Iterator[str]:
    """Every secret of a forwarder's settings, wherever it stands."""
    for _, value in settings:
        if isinstance(value, SecretStr) and value.get_secret_value():
            yield value.get_secret_value()
        elif isinstance(value, BaseModel):
            yield from _secrets(value)
