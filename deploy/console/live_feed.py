"""Share one reader of Kafka among all open Live pages."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from datetime import UTC, datetime
from hashlib import sha256
from time import monotonic
from typing import Any

import structlog
from aiokafka.errors import KafkaError

from deploy.config.configuration import Configuration
from deploy.live.live_view import REJECTED, LiveFilter, SeenEvent, Update, Watch, open_watch, read_rejected_event
from streams.kafka.settings import BrokerError
from streams.observability.logging import error_fields
from streams.records.outcomes import FORWARDED, Outcome
from streams.records.rejected import Rejected

log = structlog.get_logger()

ROWS_PER_SECOND = 20
"""Events that a page draws; the others are counted."""

MAX_ROWS = 200
"""Rows that a page keeps, and whose later outcomes it is sent."""

LINGER_SECONDS = 5.0
"""Seconds that reading goes on after the last page is closed, because a page with another filter often follows."""

RETRY_SECONDS = 5.0

WORST_FIRST = (Outcome.DEAD, Outcome.EXPIRED, Outcome.QUARANTINED, FORWARDED, Outcome.DELIVERED)
"""The outcome that is shown if an integration has several, one for each rule."""

OpenWatch = Callable[[Configuration], AbstractAsyncContextManager[Watch]]


def open_light_watch(configuration: Configuration) -> AbstractAsyncContextManager[Watch]:
    """Follow all events without their payloads."""
    return open_watch(configuration, LiveFilter(), payloads=False)


class LiveTab:
    """The next message of one open page: at most `ROWS_PER_SECOND` events, the number left out, and later outcomes.

    Args:
        only: Which events the page shows.

    """

    def __init__(self, only: LiveFilter) -> None:
        self._only = only
        self._new: dict[str, SeenEvent | Rejected] = {}
        self._changed: dict[str, SeenEvent] = {}
        self._shown: dict[str, None] = {}
        self._matched, self._since = 0, monotonic()

    def take(self, each: Update | Rejected) -> None:
        """Add an event or its later outcomes; takes the same short time even if the page is slow."""
        if isinstance(each, Rejected):
            if self._only.matches_rejected(each):
                self._add(_key(each), each)
            return
        seen = each[0]
        key = _key(seen)
        if key in self._shown:
            self._changed[key] = seen
        elif self._only.matches_seen(seen) and key not in self._new:
            self._add(key, seen)

    def _add(self, key: str, event: SeenEvent | Rejected) -> None:
        self._matched += 1
        if len(self._new) < ROWS_PER_SECOND:
            self._new[key] = event

    def batch(self, integrations: Sequence[str]) -> dict[str, Any]:
        """Return the rows since the last call as JSON data, newest first, with outcomes of `integrations` in order."""
        now = monotonic()
        seconds, self._since = max(now - self._since, 0.001), now
        new, self._new = self._new, {}
        changed, self._changed = self._changed, {}
        matched, self._matched = self._matched, 0
        self._shown.update(dict.fromkeys(new))
        while len(self._shown) > MAX_ROWS:
            del self._shown[next(iter(self._shown))]
        return {
            "rows": [_row(key, event, integrations) for key, event in reversed(new.items())],
            "changed": [_row(key, event, integrations) for key, event in changed.items()],
            "per_second": round(matched / seconds),
            "more": round((matched - len(new)) / seconds),
        }


class LiveFeed:
    """Reads events while at least one page is open, and passes each to every page.

    Args:
        current: Returns the current configuration; if it changes, reading restarts.
        open_reader: Opens the reader of Kafka.
        linger_seconds: How long reading continues without an open page.

    """

    def __init__(
        self,
        current: Callable[[], Configuration],
        open_reader: OpenWatch = open_light_watch,
        linger_seconds: float = LINGER_SECONDS,
    ) -> None:
        self._current, self._open, self._linger = current, open_reader, linger_seconds
        self._tabs: set[LiveTab] = set()
        self._reading: asyncio.Task[None] | None = None
        self.problem: str | None = None
        """Why no events can be read; None while they are read."""
        self.is_ready = False
        """Whether every event from now on is seen."""

    @contextmanager
    def tab(self, only: LiveFilter) -> Iterator[LiveTab]:
        """Add a page inside a `with` block; the first page starts the reader."""
        tab = LiveTab(only)
        self._tabs.add(tab)
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())
        try:
            yield tab
        finally:
            self._tabs.discard(tab)
            if not self._tabs:
                asyncio.get_running_loop().call_later(self._linger, self._stop_unless_used)

    def _stop_unless_used(self) -> None:
        if not self._tabs and self._reading is not None:
            self._reading.cancel()
            self._reading = None

    async def _read(self) -> None:
        while True:
            configuration = self._current()
            try:
                async with self._open(configuration) as watch:
                    self.problem, self.is_ready = None, True
                    async for each in self._until_changed(watch, configuration):
                        for tab in self._tabs:
                            tab.take(each)
            except (BrokerError, KafkaError) as error:
                self.problem = str(getattr(error, "message", error))
                await asyncio.sleep(RETRY_SECONDS)
            except Exception as error:  # noqa: BLE001  # a traceback may hold ids
                log.error("cannot follow events", **error_fields(error))  # noqa: TRY400
                self.problem = "The log of the console says why."
                await asyncio.sleep(RETRY_SECONDS)
            finally:
                self.is_ready = False

    async def _until_changed(self, watch: Watch, configuration: Configuration) -> AsyncIterator[Update | Rejected]:
        events = watch.follow()
        with suppress(StopAsyncIteration):
            while self._current() is configuration:
                yield await anext(events)


def _key(event: SeenEvent | Rejected) -> str:
    """Return the ID of an event's row: its place in Kafka, else its identity in memory."""
    text = ":".join(map(str, event.origin)) if event.origin else f"rejected {id(event)}"
    return f"e-{sha256(text.encode()).hexdigest()[:12]}"


def _row(key: str, seen: SeenEvent | Rejected, integrations: Sequence[str]) -> dict[str, Any]:
    """Return an event as JSON data, without the fields shown only in its story."""
    event: Mapping[str, Any] = read_rejected_event(seen) if isinstance(seen, Rejected) else seen.event or {}
    return {
        "key": key,
        "at": ":".join(map(str, seen.origin)) if seen.origin else None,
        "time": _text(event, "receivedAt") or _now(),
        "event": _text(event, "event") or _text(event, "name") or _text(event, "type"),
        "type": _text(event, "type"),
        "source": seen.source,
        "user": _text(event, "userId") or _text(event, "anonymousId"),
        "trace": (seen.trace or b"").decode(errors="replace") if isinstance(seen, Rejected) else seen.trace,
        REJECTED: seen.reason if isinstance(seen, Rejected) else None,
        "outcomes": [] if isinstance(seen, Rejected) else _outcomes(seen, integrations),
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _text(event: Mapping[str, Any], name: str) -> str | None:
    value = event.get(name)
    return str(value) if isinstance(value, str | int) and value != "" else None


def _outcomes(seen: SeenEvent, integrations: Sequence[str]) -> list[dict[str, Any]]:
    """Return one outcome for each integration; None if it has none."""
    found: dict[str, str] = {}
    for row in seen.rows.values():
        known = found.get(row.integration)
        if known is None or _rank(row.outcome) < _rank(known):
            found[row.integration] = row.outcome
    return [{"integration": name, "outcome": found.get(name)} for name in integrations]


def _rank(outcome: str) -> int:
    return WORST_FIRST.index(outcome) if outcome in WORST_FIRST else len(WORST_FIRST)
