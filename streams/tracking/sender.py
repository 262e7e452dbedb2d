"""A bounded queue, and the thread that sends what is in it."""

import logging
import os
import random
import threading
import weakref
from collections import Counter, deque
from collections.abc import Callable, Sequence
from time import monotonic

from streams.tracking.destinations import Connection, Destination, Item

log = logging.getLogger("turnout.tracking")

EVENT_BYTES = 32 * 1024
"""Largest event, as collectors bound it."""

BATCH_BYTES = 400 * 1024
"""Bytes of events in one request: under the 500 KB that Segment's API takes."""

FIRST_DELAY, LONGEST_DELAY = 0.5, 60.0
LONGEST_RETRY_AFTER = 300.0
FLUSH_DELAY = 0.2
LOG_EVERY = 60.0
"""Seconds between two log lines on the same kind of loss."""


class Sender:
    """Sends events from a thread of its own, and never makes the caller of `put` wait.

    The thread starts with the first event, in a forked child with the child's first. What waited at a fork is the
    parent's to send. `counts` says what became of events: `sent`, or why they were dropped.
    """

    def __init__(
        self,
        destination: Destination,
        *,
        queue_events: int,
        queue_bytes: int,
        batch_events: int,
        interval: float,
        retry_for: float,
        on_drop: Callable[[str, int], None] | None,
    ) -> None:
        self._destination = destination
        self._queue_events, self._queue_bytes = queue_events, queue_bytes
        self._batch_events, self._interval, self._retry_for = batch_events, interval, retry_for
        self._on_drop = on_drop
        self._start_over()
        _senders.add(self)

    def _start_over(self) -> None:
        """Begin with nothing: a forked child has neither its parent's thread nor its events, nor can it trust locks."""
        self._changed = threading.Condition()
        self.counts: Counter[str] = Counter()
        self._queue: deque[Item] = deque()
        self._bytes = 0
        self._in_flight = 0
        self._flushing = 0
        self._thread: threading.Thread | None = None
        self._logged: dict[str, float] = {}

    def put(self, key: bytes, value: bytes) -> bool:
        """Take an event to be sent; False where it was dropped, and counted, because the queue is full."""
        if len(value) > EVENT_BYTES:
            self.drop("too_large", 1, f"over {EVENT_BYTES} bytes")
            return False
        with self._changed:
            waiting = len(self._queue)
            full = waiting >= self._queue_events or self._bytes + len(value) > self._queue_bytes
            if not full:
                self._queue.append(Item(key, value))
                self._bytes += len(value)
                # The thread sleeps until there is a first event, and then until there are enough.
                if waiting in (0, self._batch_events - 1):
                    self._wake()
        if full:
            self.drop("full", 1, "events come faster than they are taken")
        return not full

    def _wake(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="turnout-tracking", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the interpreter is ending
                return
            self._thread = thread
        self._changed.notify_all()

    def flush(self, timeout: float) -> bool:
        """Wait until all is sent, at most so many seconds; False where something is left."""
        with self._changed:
            self._flushing += 1
            self._changed.notify_all()
            try:
                return self._changed.wait_for(lambda: not self._queue and not self._in_flight, timeout)
            finally:
                self._flushing -= 1

    def finish(self, timeout: float) -> None:
        """Flush at the process's end, and count what is not confirmed by then as lost."""
        if not self.flush(timeout):
            with self._changed:
                left = len(self._queue) + self._in_flight
                self._queue.clear()
                self._bytes = 0
            self.drop("exit", left, "the process ends")

    def drop(self, reason: str, count: int, detail: str) -> None:
        """Count events that will not be sent, tell `on_drop`, and log it, each reason once a minute at most."""
        if not count:
            return
        self._count(reason, count)
        now = monotonic()
        if now - self._logged.get(reason, -LOG_EVERY) >= LOG_EVERY:
            self._logged[reason] = now
            log.warning("%d events were dropped so far: %s", self.counts[reason], f"{reason} ({detail})")
        if self._on_drop is not None:
            try:
                self._on_drop(reason, count)
            except Exception as error:  # noqa: BLE001  # the app's own, and no event may depend on it
                log.error("on_drop raised %s", type(error).__name__)  # noqa: TRY400

    def _count(self, what: str, count: int) -> None:
        if count:
            with self._changed:
                self.counts[what] += count

    def _run(self) -> None:
        connection = self._destination.open()
        while True:
            self._deliver(connection, self._take())

    def _take(self) -> Sequence[Item]:
        """The next events, once there are enough of them or the oldest has waited long enough."""
        with self._changed:
            self._in_flight = 0
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._queue)
            self._changed.wait_for(lambda: len(self._queue) >= self._batch_events or self._flushing, self._interval)
            items: list[Item] = []
            size = 0
            while self._queue and len(items) < self._batch_events and size + len(self._queue[0].value) <= BATCH_BYTES:
                item = self._queue.popleft()
                items.append(item)
                size += len(item.value)
            self._bytes -= size
            self._in_flight = len(items)
            return items

    def _deliver(self, connection: Connection, items: Sequence[Item]) -> None:
        give_up = monotonic() + self._retry_for
        attempt = 0
        while items:
            try:
                answer = connection.send(items)
            except Exception as error:  # noqa: BLE001  # without this thread nothing is sent any more
                self.drop("failed", len(items), type(error).__name__)
                return
            self._count("sent", len(items) - len(answer.again) - answer.refused)
            self.drop("refused", answer.refused, answer.reason)
            items = answer.again
            if not items:
                return
            if monotonic() >= give_up:
                self.drop("expired", len(items), answer.reason)
                return
            self._count("retries", 1)
            self._pause(retry_delay(attempt, answer.after))
            attempt += 1

    def _pause(self, delay: float) -> None:
        with self._changed:
            flushing = self._changed.wait_for(lambda: self._flushing, delay)
        if flushing:
            # A process that ends has no time for more.
            threading.Event().wait(min(delay, FLUSH_DELAY))


def retry_delay(attempt: int, after: float | None) -> float:
    """Seconds until the next attempt: what the collector asks for, else exponential with full jitter."""
    if after is not None:
        return min(after, LONGEST_RETRY_AFTER)
    return random.uniform(0.1, 1.0) * min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(attempt, 10))  # noqa: S311


_senders: weakref.WeakSet[Sender] = weakref.WeakSet()


def _start_all_over() -> None:
    for sender in _senders:
        sender._start_over()  # noqa: SLF001


os.register_at_fork(after_in_child=_start_all_over)
