"""Send records in batches, with one acknowledgement per batch.

With aiokafka, an acknowledged send of one record costs 25 µs or more, and appending to a batch 1 to 2 µs. All callers
share batches; `PendingAcks` reports when all records of one caller are acknowledged.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
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
"""Maximum bytes of a key that is kept if the full record does not fit."""

NO_HEADERS: Headers = []


Form = Callable[[], tuple[bytes | None, Headers]]
"""Encodes one form of a record, its value and headers; may raise."""


class _Batch:
    __slots__ = ("acks", "builder", "last", "size")

    def __init__(self, builder: Any) -> None:
        self.builder = builder
        self.acks: list[PendingAcks] = []
        self.last: PendingAcks | None = None
        self.size = 0


class _PartitionQueue:
    """Queue the batches of one partition; one is open, and at most one is in flight."""

    __slots__ = ("full", "is_sending", "open", "partition", "topic")

    def __init__(self, topic: str, partition: int) -> None:
        self.topic = topic
        self.partition = partition
        self.open: _Batch | None = None
        self.full: deque[_Batch] = deque()
        self.is_sending = False

    def take(self) -> _Batch | None:
        """Remove and return the next batch, if there is one."""
        if self.full:
            return self.full.popleft()
        batch, self.open = self.open, None
        return batch


class Producer:
    """The one producer of a process.

    Args:
        broker: How to connect to Kafka.
        client_id: The client's name in Kafka's logs and metrics.
        linger: Maximum seconds that a batch waits for more records. Batches of all partitions are sent together, since
            a request costs more than a batch. The next batch fills while one of its partition is in flight.
        batch_bytes: Maximum size of a batch.
        record_bytes: Maximum size of a record.
        bound: Unacknowledged bytes from which on `wait_for_room` waits.
        on_failure: Called for each batch that Kafka refused.

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
        self._queues: dict[tuple[str, int], _PartitionQueue] = {}
        self._producer: AIOKafkaProducer | None = None
        self._create_batch: Callable[[], Any]
        self._changed = asyncio.Event()
        self._lingering: list[_PartitionQueue] = []
        self._timer: asyncio.TimerHandle | None = None
        self._ready: list[_PartitionQueue] = []
        self._tasks: set[asyncio.Task[None]] = set()

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
        """Send open batches, wait at most `timeout` seconds for their acknowledgement, and disconnect."""
        deadline = monotonic() + timeout
        self._send(self._queues.values())
        while self.unconfirmed and monotonic() < deadline:
            await self._wait(deadline - monotonic())
        for task in self._tasks:
            task.cancel()
        if self._producer:
            try:
                await asyncio.wait_for(self._producer.stop(), max(1.0, deadline - monotonic()))
            except (TimeoutError, KafkaError):
                return

    async def reachable(self, timeout: float) -> bool:
        """Return whether Kafka responds within `timeout` seconds."""
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
        """Add a record, which `acks` waits for; raises RecordTooLargeError, and then nothing is added."""
        size = len(value or b"") + len(key or b"") + HEADROOM
        if size > self.record_bytes or (headers and size + length_of(headers) - SHORT_HEADERS > self.record_bytes):
            raise RecordTooLargeError.of(size - HEADROOM, self.record_bytes)
        queue = self._queues.get((topic, partition))
        if queue is None:
            queue = self._queues[topic, partition] = _PartitionQueue(topic, partition)
        batch = queue.open
        if batch is None or batch.builder.append(timestamp=None, key=key, value=value, headers=headers) is None:
            batch = self._open(queue)
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

        `forms` go from the full record to the smallest, which must always fit. A key longer than SHORT_KEY is kept only
        with the full form. Raises RecordTooLargeError if no form fits, and then nothing is added.
        """
        is_short = len(key or b"") <= SHORT_KEY
        attempts = [(form, key if is_short or form is forms[0] else None) for form in forms]
        for form, its_key in (*attempts, (forms[-1], None)):
            try:
                value, headers = form()
                self.append(topic, partition, acks, key=its_key, value=value, headers=headers)
            except BaseException as error:  # noqa: BLE001  # the next form has less that can be invalid
                to_exception(error)
                continue
            return
        raise RecordTooLargeError(f"no form of a record fits into {topic}")

    async def wait_for_room(self) -> None:
        """Wait until the unacknowledged bytes are below the bound."""
        while self.unconfirmed >= self.bound:
            await self._wait(None)

    async def _wait(self, timeout: float | None) -> None:
        self._changed.clear()
        try:
            await asyncio.wait_for(self._changed.wait(), timeout)
        except TimeoutError:
            return

    def _open(self, queue: _PartitionQueue) -> _Batch:
        if queue.open is not None:
            queue.full.append(queue.open)
            self._send_soon(queue)
        elif not queue.is_sending:
            self._lingering.append(queue)
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(self.linger, self._send_lingering)
        queue.open = batch = _Batch(self._create_batch())
        return batch

    def _send_lingering(self) -> None:
        self._timer = None
        queues, self._lingering = self._lingering, []
        self._send(queues)

    def _send_soon(self, queue: _PartitionQueue) -> None:
        """Send the next batch, together with those of all queues that become ready in this turn of the event loop."""
        if not self._ready:
            asyncio.get_running_loop().call_soon(self._send_ready)
        self._ready.append(queue)

    def _send_ready(self) -> None:
        queues, self._ready = self._ready, []
        self._send(queues)

    def _send(self, queues: Iterable[_PartitionQueue]) -> None:
        """Pass the next batch of each queue to aiokafka, except of those with one in flight."""
        by_topic: dict[str, list[tuple[_PartitionQueue, _Batch]]] = {}
        for queue in queues:
            if not queue.is_sending and (batch := queue.take()) is not None:
                queue.is_sending = True
                batch.builder.close()
                by_topic.setdefault(queue.topic, []).append((queue, batch))
        # A topic whose metadata is awaited does not delay other topics.
        for batches in by_topic.values():
            task = asyncio.get_running_loop().create_task(self._submit(batches))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _submit(self, batches: Iterable[tuple[_PartitionQueue, _Batch]]) -> None:
        assert self._producer
        for queue, batch in batches:
            try:
                sent = await self._producer.send_batch(batch.builder, queue.topic, partition=queue.partition)
            # aiokafka asserts that the partition exists, and raises its own errors if the producer is closed.
            except (KafkaError, AssertionError, OSError) as error:
                self._settle(queue, batch, error)
            else:
                sent.add_done_callback(partial(self._acknowledge, queue, batch))

    def _acknowledge(self, queue: _PartitionQueue, batch: _Batch, sent: asyncio.Future[Any]) -> None:
        if not sent.cancelled():
            self._settle(queue, batch, sent.exception())

    def _settle(self, queue: _PartitionQueue, batch: _Batch, error: BaseException | None) -> None:
        queue.is_sending = False
        if queue.full or queue.open:
            self._send_soon(queue)
        self.unconfirmed -= batch.size
        self._changed.set()
        for acks in batch.acks:
            acks.release(error)
        if error is not None:
            self._on_failure(error)
