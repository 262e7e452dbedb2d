"""Queue events, and send them from a background thread."""

from __future__ import annotations

import logging
import os
import random
import threading
import weakref
from collections import Counter, deque
from collections.abc import Callable, Sequence
from time import monotonic

from turnout_tracking.destinations import Connection, Destination, Item

log = logging.getLogger("turnout.tracking")

EVENT_BYTES = 32 * 1024
"""Maximum size of an event, as in collectors."""

BATCH_BYTES = 400 * 1024
"""Maximum bytes of events in one request, under the 500 KB of Segment's API."""

FIRST_DELAY_SECONDS, MAX_DELAY_SECONDS = 0.5, 60.0
MAX_RETRY_AFTER_SECONDS = 300.0
FLUSH_DELAY = 0.2
LOG_EVERY = 60.0
"""Seconds between two log lines about the same reason."""


class Sender:
    """Sends events from a background thread, and never blocks the caller of `put`.

    The thread starts with the first event; a forked child starts its own. Events in the queue at a fork are sent by the
    parent only. `counts` has the number of events by outcome: `sent`, or the reason why they were dropped.
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
        self._reset()
        _senders.add(self)

    def _reset(self) -> None:
        """Start with an empty queue: a forked child has no thread, and its parent's locks may be held forever."""
        self._changed = threading.Condition()
        self.counts: Counter[str] = Counter()
        self._queue: deque[Item] = deque()
        self._bytes = 0
        self._in_flight = 0
        self._flushing = 0
        self._thread: threading.Thread | None = None
        self._logged: dict[str, float] = {}

    def put(self, key: bytes, value: bytes) -> bool:
        """Queue an event; False if it was dropped and counted, because it is too large or the queue is full."""
        if len(value) > EVENT_BYTES:
            self.drop("too_large", 1, f"over {EVENT_BYTES} bytes")
            return False
        with self._changed:
            waiting = len(self._queue)
            full = waiting >= self._queue_events or self._bytes + len(value) > self._queue_bytes
            if not full:
                self._queue.append(Item(key, value))
                self._bytes += len(value)
                # The thread sleeps until the first event, and then until the batch is full.
                if waiting in (0, self._batch_events - 1):
                    self._wake()
        if full:
            self.drop("full", 1, "events arrive faster than they are sent")
        return not full

    def _wake(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="turnout-tracking", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the interpreter is exiting
                return
            self._thread = thread
        self._changed.notify_all()

    def flush(self, timeout: float) -> bool:
        """Wait until all events are sent, at most `timeout` seconds; False if some are left."""
        with self._changed:
            self._flushing += 1
            self._changed.notify_all()
            try:
                return self._changed.wait_for(lambda: not self._queue and not self._in_flight, timeout)
            finally:
                self._flushing -= 1

    def finish(self, timeout: float) -> None:
        """Flush at the exit of the process, and count unconfirmed events as dropped."""
        if not self.flush(timeout):
            with self._changed:
                left = len(self._queue) + self._in_flight
                self._queue.clear()
                self._bytes = 0
            self.drop("exit", left, "the process exits")

    def drop(self, reason: str, count: int, detail: str) -> None:
        """Count dropped events, call `on_drop`, and log it, each reason at most once per minute."""
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
            except Exception as error:  # noqa: BLE001  # the app's own code must not stop the sender
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
        """Return the next batch, when it is full or its oldest event has waited for `interval` seconds."""
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
                result = connection.send(items)
            except Exception as error:  # noqa: BLE001  # if this thread ended, nothing would be sent
                self.drop("failed", len(items), type(error).__name__)
                return
            self._count("sent", len(items) - len(result.again) - result.refused)
            self.drop("refused", result.refused, result.reason)
            items = result.again
            if not items:
                return
            if monotonic() >= give_up:
                self.drop("expired", len(items), result.reason)
                return
            self._count("retries", 1)
            self._pause(retry_delay(attempt, result.after))
            attempt += 1

    def _pause(self, delay: float) -> None:
        with self._changed:
            flushing = self._changed.wait_for(lambda: self._flushing, delay)
        if flushing:
            # A process that exits cannot wait longer.
            threading.Event().wait(min(delay, FLUSH_DELAY))


def retry_delay(attempt: int, after: float | None) -> float:
    """Return seconds until the next attempt: `after` if the collector sent it, else exponential backoff with jitter."""
    if after is not None:
        return min(after, MAX_RETRY_AFTER_SECONDS)
    return random.uniform(0.1, 1.0) * min(MAX_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2.0 ** min(attempt, 10))  # noqa: S311


_senders: weakref.WeakSet[Sender] = weakref.WeakSet()


def _reset_all() -> None:
    for sender in _senders:
        sender._reset()  # noqa: SLF001


os.register_at_fork(after_in_child=_reset_all)
