"""Keep an integration's waiting deliveries, and decide when and in which batch they are sent."""

import asyncio
from collections.abc import Iterable
from typing import Any

from forwarders.api.contract import Forwarder, HttpForwarder, Limits
from streams.delivery.flow.batch_queue import BatchQueue
from streams.delivery.flow.batches import Batch, Batches
from streams.delivery.flow.breaker import Breaker
from streams.delivery.flow.delay_queue import DelayQueue
from streams.delivery.flow.key_holds import KeyHolds
from streams.delivery.flow.retry_topic import RetryTopic
from streams.delivery.flow.settings import DeliverySettings
from streams.delivery.outcomes.dead_letters import InternalFailure
from streams.delivery.outcomes.pending import PendingDelivery
from streams.delivery.outcomes.writer import OutcomeWriter
from streams.observability.internal_error import to_exception


class Schedule:
    """The batches of one integration, from a delivery's record until it is sent, and between two attempts.

    Unordered, there is one queue, and any worker takes its next batch. Ordered, each queue (a hash of the key) has one
    worker, so that one batch of it is in flight at a time, and `holds` keeps later deliveries of a key behind one that
    failed. The retry topic would lose the order, so an ordered integration does not use it.

    Args:
        forwarder: Groups the payloads that may share a request.
        settings: The integration's settings.
        limits: The limits of a request.
        breaker: Tracks whether delivery is paused.
        retry_topic: Takes failing deliveries while delivery is paused.
        writer: Writes dead letters of deliveries that cannot be grouped.
        ordered: Whether deliveries of a key keep their order.
        leaving: Set while the partitions are being revoked.
        queues: The number of queues.

    """

    def __init__(
        self,
        forwarder: Forwarder[Any],
        settings: DeliverySettings,
        limits: Limits,
        breaker: Breaker,
        retry_topic: RetryTopic,
        writer: OutcomeWriter,
        *,
        ordered: bool,
        leaving: asyncio.Event,
        queues: int,
    ) -> None:
        self._forwarder, self._breaker, self._retry_topic, self._writer = forwarder, breaker, retry_topic, writer
        self._ordered, self._leaving = ordered, leaving
        self._shares_requests = limits.items > 1
        self.queues = [BatchQueue(breaker, ordered=ordered) for _ in range(queues)]
        self.holds = KeyHolds(limits, self._group_of, settings.fetched_bytes // 2) if ordered else None
        self._batches = Batches(limits, settings.linger, self._enqueue, ordered=ordered)
        self._aside = DelayQueue(self.add)
        self._retries: dict[Batch, asyncio.TimerHandle] = {}

    def add(self, pending: PendingDelivery) -> None:
        """Put a delivery into the open batch of its queue and group."""
        try:
            self._batches.add(pending, self._queue_of(pending), self._group_of(pending))
        except BaseException as error:  # noqa: BLE001  # an error in a forwarder, such as a key that is not hashable
            self._writer.dead_letter(pending, InternalFailure.by(to_exception(error)))

    def set_aside(self, pending: PendingDelivery, seconds: float) -> None:
        """Add a delivery again when its user's rate has room."""
        self._aside.put(pending, seconds)

    def seal(self, batch: Batch) -> list[PendingDelivery]:
        """Seal a batch, and return its deliveries."""
        return self._batches.seal(batch)

    def release(self, deliveries: list[PendingDelivery], batch: Batch) -> None:
        """Queue the deliveries that wait for keys of a batch that was sent."""
        if self.holds and not self._leaving.is_set():
            for after in self.holds.release({pending.key for pending in deliveries}, batch):
                self._enqueue(after.queue, after)

    def retry(self, batch: Batch, seconds: float) -> None:
        """Send a batch again after a number of seconds, without occupying a worker; if ordered, hold its keys."""
        if self._leaving.is_set():
            return
        if self.holds is not None:
            self.holds.hold(batch)
        self._retries[batch] = asyncio.get_running_loop().call_later(seconds, self._queue_again, batch)

    def retry_now(self) -> None:
        """Queue the batches that wait to be sent again, for a probe on demand; suspects continue to wait."""
        for batch, timer in list(self._retries.items()):
            if not batch.is_suspect:
                timer.cancel()
                self._queue_again(batch)

    def wait_for_probe(self, batch: Batch, deliveries: list[PendingDelivery]) -> None:
        """Put deliveries that may not be sent while delivery is paused in front of their queue."""
        waiting = batch.part(deliveries, batch.failures)
        if self.holds is not None:
            self.holds.hold(waiting)
        self.queues[batch.queue].put_back(waiting)

    def move_to_retry_topic(self, batches: Iterable[Batch]) -> None:
        """Move batches to the retry topic while delivery is paused, so that others are probed, or fetched."""
        for batch in batches:
            for pending in self._batches.seal(batch):
                if not pending.fetched.dropped:
                    reason = "failing" if batch.failures.is_own else "paused"
                    self._retry_topic.move(pending, reason, batch.failures.spent)

    def clear(self) -> None:
        """Discard everything; the partitions are about to be revoked."""
        self._batches.clear()
        self._aside.clear()
        for timer in self._retries.values():
            timer.cancel()
        self._retries.clear()
        if self.holds is not None:
            self.holds.clear()
        for queue in self.queues:
            queue.clear()

    @property
    def has_retries(self) -> bool:
        """Whether any delivery waits for its retry, or for its user's throttling to end."""
        return bool(len(self._aside) or self._retries)

    @property
    def has_queued(self) -> bool:
        """Whether any batch waits for a worker."""
        return any(not queue.empty() for queue in self.queues)

    @property
    def waiting(self) -> set[int]:
        """The identities of all deliveries that wait to be sent again."""
        batches = [*self._retries, *(batch for queue in self.queues for batch in queue.waiting)]
        behind = self.holds.waiting if self.holds is not None else ()
        return {id(pending) for batch in batches for pending in batch.deliveries} | {
            *map(id, behind),
            *self._aside.waiting,
        }

    def _queue_of(self, pending: PendingDelivery) -> int:
        if len(self.queues) == 1:
            return 0
        return (hash(pending.key) if self._ordered else pending.fetched.tp[1]) % len(self.queues)

    def _group_of(self, pending: PendingDelivery) -> Any:
        if isinstance(self._forwarder, HttpForwarder):
            return self._forwarder.group_key(pending.delivery.payload) if self._shares_requests else None
        return pending.fetched.tp

    def _enqueue(self, queue: int, batch: Batch) -> None:
        self.queues[queue].put_nowait(batch)

    def _queue_again(self, batch: Batch) -> None:
        del self._retries[batch]
        if self._breaker.is_open and batch.is_suspect and self.holds is None:
            self.move_to_retry_topic([batch])
            return
        self._enqueue(batch.queue, batch)
