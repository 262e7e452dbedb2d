"""Send records in batches, with one confirmation per batch.

A confirmed send of one record costs aiokafka 25 µs or more; appending to a batch costs 1 to 2. Records of all callers
share batches, and a caller learns through its `PendingAcks` when all of its own are confirmed.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from streams.kafka import aiokafka_patch
from streams.kafka.acks import PendingAcks
from streams.kafka.settings import Broker, BrokerError
from streams.observability.internal_error import to_exception
from streams.records.format import Headers
from streams.records.size import HEADROOM, LARGEST_RECORD_BYTES, SHORT_HEADERS, RecordTooLargeError, length_of

aiokafka_patch.apply()

SHORT_KEY = 64 * 1024
"""Bytes of a key that a slimmer form of a record keeps."""

NO_HEADERS: Headers = []


Form = Callable[[], tuple[bytes | None, Headers]]
"""Makes one form of a record: its value and headers. It may raise if that form cannot be encoded."""


class _Batch:
    __slots__ = ("acks", "builder", "last", "size")

    def __init__(self, builder: Any) -> None:
        self.builder = builder
        self.acks: list[PendingAcks] = []
        self.last: PendingAcks | None = None
        self.size = 0


class _PartitionQueue:
    """Queue the batches of one partition; one is open, and at most one is in flight."""

    __slots__ = ("full", "open", "partition", "sending", "timer", "topic")

    def __init__(self, topic: str, partition: int) -> None:
        self.topic = topic
        self.partition = partition
        self.open: _Batch | None = None
        self.full: deque[_Batch] = deque()
        self.timer: asyncio.TimerHandle | None = None
        self.sending: asyncio.Task[None] | None = None


class Producer:
    """The one producer of a process.

    `linger` is how long, in seconds, a batch waits for company; while a batch of its partition is on its way the next
    one fills anyway. `bound` is how many unconfirmed bytes `wait_for_room` lets stand. `on_failure` hears of each batch
    that the broker did not take.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        client_id: str,
        linger: float = 0.005,
        batch_bytes: int = 256 * 1024,
        record_bytes: int = LARGEST_RECORD_BYTES,
        bound: int = 32 * 1024 * 1024,
        on_failure: Callable[[BaseException], None] = lambda _: None,
    ) -> None:
        self.broker = broker
        self.linger = linger
        self.record_bytes = record_bytes
        self.bound = bound
        self.unconfirmed = 0
        self._client_id = client_id
        self._batch_bytes = batch_bytes
        self._on_failure = on_failure
        self._lanes: dict[tuple[str, int], _PartitionQueue] = {}
        self._producer: AIOKafkaProducer | None = None
        self._create_batch: Callable[[], Any]
        self._changed = asyncio.Event()

    async def start(self) -> None:
        """Connect; raises BrokerError."""
        self._producer = AIOKafkaProducer(
            **self.broker.client(),
            client_id=self._client_id,
            acks="all",
            enable_idempotence=self.broker.idempotent,
            compression_type=None if self.broker.compression == "none" else self.broker.compression,
            max_batch_size=self._batch_bytes,
            max_request_size=2 * self.record_bytes,
        )
        self._create_batch = self._producer.create_batch
        try:
            await self._producer.start()
        except (KafkaError, OSError) as error:
            await self._producer.stop()
            raise BrokerError(f"Kafka at {self.broker.bootstrap} does not answer: {error}".splitlines()[0]) from error

    async def stop(self, timeout: float = 10.0) -> None:
        """Send what is open, wait for confirmations for at most `timeout` seconds, disconnect."""
        deadline = monotonic() + timeout
        for lane in self._lanes.values():
            self._send(lane)
        while self.unconfirmed and monotonic() < deadline:
            await self._wait(deadline - monotonic())
        for lane in self._lanes.values():
            if lane.sending:
                lane.sending.cancel()
        if self._producer:
            try:
                await asyncio.wait_for(self._producer.stop(), max(1.0, deadline - monotonic()))
            except (TimeoutError, KafkaError):
                return

    async def reachable(self, timeout: float) -> bool:
        """Whether Kafka answers now, within `timeout` seconds."""
        if self._producer is None:
            return False
        try:
            return bool(await asyncio.wait_for(self._producer.client.force_metadata_update(), timeout))
        except TimeoutError:
            return False

    def append(
        self,
        topic: str,
        partition: int,
        acks: PendingAcks,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Headers = NO_HEADERS,
    ) -> None:
        """Add a record, which `acks` waits for; raises RecordTooLargeError, and then nothing was added."""
        size = len(value or b"") + len(key or b"") + HEADROOM
        if size > self.record_bytes or (headers and size + length_of(headers) - SHORT_HEADERS > self.record_bytes):
            raise RecordTooLargeError.of(size - HEADROOM, self.record_bytes)
        lane = self._lanes.get((topic, partition))
        if lane is None:
            lane = self._lanes[topic, partition] = _PartitionQueue(topic, partition)
        batch = lane.open
        if batch is None or batch.builder.append(timestamp=None, key=key, value=value, headers=headers) is None:
            batch = self._open(lane)
            batch.builder.append(timestamp=None, key=key, value=value, headers=headers)
        if batch.last is not acks:
            batch.last = acks
            batch.acks.append(acks)
            acks.hold()
        batch.size += size
        self.unconfirmed += size

    def safe_append(
        self, topic: str, partition: int, acks: PendingAcks, *, key: bytes | None, forms: Sequence[Form]
    ) -> None:
        """Append the first form of a record that can be encoded and fits.

        `forms` go from the full record to the slimmest, which must always fit. A key longer than SHORT_KEY is kept only
        with the full form. Raises RecordTooLargeError if no form fits; nothing was added then.
        """
        is_short = len(key or b"") <= SHORT_KEY
        attempts = [(form, key if is_short or form is forms[0] else None) for form in forms]
        for form, its_key in (*attempts, (forms[-1], None)):
            try:
                value, headers = form()
                self.append(topic, partition, acks, key=its_key, value=value, headers=headers)
            except BaseException as error:  # noqa: BLE001  # whatever is wrong with this form, the next has less of it
                to_exception(error)
                continue
            return
        raise RecordTooLargeError(f"no form of a record fits into {topic}")

    async def wait_for_room(self) -> None:
        """Wait until the unconfirmed bytes are below the bound."""
        while self.unconfirmed >= self.bound:
            await self._wait(None)

    async def _wait(self, timeout: float | None) -> None:
        self._changed.clear()
        try:
            await asyncio.wait_for(self._changed.wait(), timeout)
        except TimeoutError:
            return

    def _open(self, lane: _PartitionQueue) -> _Batch:
        if lane.open is not None:
            lane.full.append(lane.open)
            self._send(lane)
        elif lane.sending is None:
            lane.timer = asyncio.get_running_loop().call_later(self.linger, self._send, lane)
        lane.open = batch = _Batch(self._create_batch())
        return batch

    def _send(self, lane: _PartitionQueue) -> None:
        if lane.timer:
            lane.timer.cancel()
            lane.timer = None
        if lane.sending is None and (lane.full or lane.open):
            lane.sending = asyncio.get_running_loop().create_task(self._drain(lane))

    async def _drain(self, lane: _PartitionQueue) -> None:
        assert self._producer
        try:
            while lane.full or lane.open:
                if lane.full:
                    batch = lane.full.popleft()
                else:
                    assert lane.open
                    batch, lane.open = lane.open, None
                error: BaseException | None = None
                batch.builder.close()
                try:
                    await (await self._producer.send_batch(batch.builder, lane.topic, partition=lane.partition))
                # aiokafka answers an unknown partition with an assertion, and a closed producer with its own errors.
                except (KafkaError, AssertionError, OSError) as failure:
                    error = failure
                self._settle(batch, error)
        finally:
            lane.sending = None

    def _settle(self, batch: _Batch, error: BaseException | None) -> None:
        self.unconfirmed -= batch.size
        self._changed.set()
        for acks in batch.acks:
            acks.release(error)
        if error is not None:
            self._on_failure(error)
