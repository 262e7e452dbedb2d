"""Log one line when Kafka becomes unreachable, and one when it is back."""

import threading
from collections.abc import Callable
from enum import Enum
from time import monotonic, time

import structlog

from streams.kafka.admin import check_reachable
from streams.kafka.settings import Broker, BrokerError
from streams.parsing.times import rfc3339

log = structlog.get_logger()

CHECK_SECONDS = 2.0
"""Seconds between two attempts to reach Kafka while it is away."""

QUIET_SECONDS = 10.0
"""Seconds after Kafka is back in which its clients still complain."""

MAX_HELD = 100

Write = Callable[[], None]


class _State(Enum):
    REACHABLE = "reachable"
    CHECKING = "checking"
    AWAY = "away"
    BACK = "back"


class OutageWatch:
    """Replaces the many errors that Kafka's clients log during an outage with two lines.

    An error starts a thread that tries to reach Kafka. Errors are held until it has a result. If Kafka answers, they
    are written, since they have another cause; otherwise errors are dropped until Kafka is back.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._lock = threading.RLock()
        self._state = _State.REACHABLE
        self._held: list[Write] = []

    def complain(self, write: Write, *, is_suspicious: bool = True) -> None:
        """Log an error, now or later, unless Kafka is unreachable; if it `is_suspicious`, check whether it is."""
        with self._lock:
            if self._state is _State.REACHABLE:
                if not is_suspicious:
                    write()
                    return
                self._state = _State.CHECKING
                threading.Thread(target=self._check, name="kafka-outage", daemon=True).start()
            if self._state is _State.CHECKING and len(self._held) < MAX_HELD:
                self._held.append(write)

    def _check(self) -> None:
        since, began = time(), monotonic()
        problem = self._problem()
        if problem is None:
            self._end(write=True)
            return
        with self._lock:
            self._state = _State.AWAY
            self._held.clear()
        log.error("Kafka unreachable, retrying", since=rfc3339(since), reason=problem)
        wait = threading.Event()
        while self._problem() is not None:
            wait.wait(CHECK_SECONDS)
        with self._lock:
            self._state = _State.BACK
        log.info("Kafka is reachable again", seconds=round(monotonic() - began))
        wait.wait(QUIET_SECONDS)
        self._end(write=False)

    def _end(self, *, write: bool) -> None:
        with self._lock:
            self._state, held, self._held = _State.REACHABLE, self._held, []
            for each in held if write else ():
                each()

    def _problem(self) -> str | None:
        try:
            check_reachable(self._broker)
        except BrokerError as error:
            return str(error)
        return None
