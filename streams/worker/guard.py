"""Set aside records that fail with an internal error, unless most of them do.

A failure is written as a dead letter or a rejected record only after a short delay. If most records fail by then, the
worker is broken rather than the records: nothing is written, nothing is committed, and the worker stops.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Final, NamedTuple

import structlog

from streams.observability.internal_error import describe, to_exception
from streams.observability.metrics import INTERNAL_FAILURES

log = structlog.get_logger()

WINDOW_RECORDS: Final = 1000
"""Consecutive records of which at most half may fail."""

HOLD_SECONDS: Final = 10.0
"""Seconds that a failure is held before it is written, if fewer than half of the records since then fail."""

MAX_HOLD_SECONDS: Final = 300.0
"""Maximum seconds that a failure is held, if most records since then fail but are too few for a conclusion."""


class BrokenWorkerError(Exception):
    """Most records fail, so the worker must stop."""


class _Held(NamedTuple):
    since: float
    seen: int
    failed: int
    write: Callable[[], None]


class Guard:
    """Count the records of one worker that failed, and hold their dead letters and rejected records.

    Args:
        name: The worker in logs and metrics: `router`, or an integration.
        fail: Called once with BrokenWorkerError when more than half of WINDOW_RECORDS consecutive records failed.
        clock: Monotonic seconds.

    """

    def __init__(self, name: str, fail: Callable[[Exception], None], clock: Callable[[], float] = monotonic) -> None:
        self._name, self._fail, self._clock = name, fail, clock
        self._seen = 0
        self._failed = 0
        self._latest = 0.0
        self._failures: deque[int] = deque()
        self._held: deque[_Held] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self.broken = False

    def passed(self, records: int = 1) -> None:
        """Count records that did not fail."""
        self._seen += records
        if self._held:
            self._latest = self._clock()
            self._release()

    def failed(self, error: Exception, write: Callable[[], None], **place: object) -> None:
        """Count and log a record that failed; `write` is called once it is certain that the worker works.

        Args:
            error: Why it failed. Its text is not logged, because it may quote the record.
            write: Appends the dead letter or rejected record. Not called if the worker turns out to be broken.
            place: Log fields with the record's topic, partition and offset.

        """
        INTERNAL_FAILURES.labels(self._name).inc()
        log.error("failed to process a record", worker=self._name, reason=describe(error), **place)
        if self.broken:
            return
        self._latest = now = self._clock()
        self._held.append(_Held(now, self._seen, self._failed, write))
        self._seen += 1
        self._failed += 1
        self._failures.append(self._seen)
        while self._failures[0] <= self._seen - WINDOW_RECORDS:
            self._failures.popleft()
        if len(self._failures) > WINDOW_RECORDS // 2:
            self.broken = True
            self.drop()
            self._fail(BrokenWorkerError(f"more than half of {WINDOW_RECORDS:,} consecutive records failed"))
            return
        self._release()

    @property
    def holds(self) -> bool:
        """Return whether any failure is held."""
        return bool(self._held)

    def flush(self) -> None:
        """Write the held failures now, unless most records since then failed."""
        while self._held and not self._mostly_failed_since(self._held[0]):
            self._write_first()

    def drop(self) -> None:
        """Discard the held failures; their records are not committed and will be redelivered."""
        self._held.clear()
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _release(self) -> None:
        """Write the failures that were held long enough; check again later if any are left."""
        now = self._clock()
        while self._held and self._may_write(self._held[0], now):
            self._write_first()
        if self._held and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(HOLD_SECONDS / 10, self._check_again)

    def _write_first(self) -> None:
        try:
            self._held.popleft().write()
        except BaseException as error:  # noqa: BLE001  # the record stays uncommitted, so the worker must stop
            failure = to_exception(error)
            self.broken = True
            self.drop()
            self._fail(failure)

    def _check_again(self) -> None:
        self._timer = None
        self._release()

    def _may_write(self, held: _Held, now: float) -> bool:
        if self._seen - held.seen >= WINDOW_RECORDS:
            return True
        if now - held.since < HOLD_SECONDS:
            return False
        is_quiet = now - self._latest >= HOLD_SECONDS
        return is_quiet or now - held.since >= MAX_HOLD_SECONDS or not self._mostly_failed_since(held)

    def _mostly_failed_since(self, held: _Held) -> bool:
        return 2 * (self._failed - held.failed) > self._seen - held.seen
