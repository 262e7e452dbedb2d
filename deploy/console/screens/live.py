"""Live: events as they arrive, with one outcome for each integration."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import ClassVar

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Route

from deploy.console.backend import Backend
from deploy.console.live_feed import MAX_ROWS, ROWS_PER_SECOND, LiveFeed
from deploy.console.pages import ConsolePage, ConsoleScreen, page, stream
from deploy.live.live_view import REJECTED, LiveFilter
from streams.records.outcomes import Outcome

TICK_SECONDS = 1.0
"""Seconds between two messages of a stream."""

FILTERS = ("source", "event", "user", "trace", "integration", "outcome")
"""Parameters of the page, in the order of the fields of LiveFilter."""

OUTCOMES = (Outcome.DEAD, Outcome.DELIVERED, Outcome.FILTERED, Outcome.CONSENT, Outcome.OPTED_OUT, Outcome.SUPPRESSED,
            Outcome.SAMPLED, Outcome.DUPLICATE, Outcome.QUARANTINED, Outcome.EXPIRED, REJECTED)  # fmt: skip


class LiveScreen(ConsoleScreen):
    """The stream of events, filtered on the server."""

    title: ClassVar[str] = "Live"
    path: ClassVar[str] = "/live"
    key: ClassVar[str] = "v"

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        self.feed = LiveFeed(lambda: backend.configuration)

    def routes(self) -> Sequence[Route]:
        """Return the routes."""
        return [*page("/live", self._show), *stream("/live/stream", self._listen)]

    async def _show(self, request: Request) -> ConsolePage:
        self._filter(request)
        configuration = self.backend.configuration
        data = {
            # Pairs, because what a viewer has typed is not masked.
            "filters": [{"field": name, "given": request.query_params.get(name, "")} for name in FILTERS],
            "sources": sorted(configuration.source_files),
            "known": list(configuration.integrations),
            "integrations": self._columns(request),
            "outcomes": list(map(str, OUTCOMES)),
            "max_rows": MAX_ROWS,
            "per_second": ROWS_PER_SECOND,
        }
        return ConsolePage("Live", "live.html", data)

    async def _listen(self, request: Request) -> AsyncIterator[ConsolePage]:
        integrations = self._columns(request)
        with self.feed.tab(self._filter(request)) as tab:
            while True:
                state = {"problem": self.feed.problem, "ready": self.feed.is_ready, "columns": len(integrations)}
                yield ConsolePage("Live", "live_rows.html", {**tab.batch(integrations), **state})
                await asyncio.sleep(TICK_SECONDS)

    def _columns(self, request: Request) -> list[str]:
        chosen = request.query_params.get("integration")
        return [name for name in self.backend.configuration.integrations if chosen in (None, "", name)]

    def _filter(self, request: Request) -> LiveFilter:
        """Return the requested filter; raises HTTPException."""
        given = {name: request.query_params.get(name, "").strip() for name in FILTERS}
        configuration = self.backend.configuration
        known = {
            "source": configuration.source_files,
            "integration": configuration.integrations,
            "outcome": tuple(map(str, OUTCOMES)),
        }
        for name, names in known.items():
            if given[name] and given[name] not in names:
                raise HTTPException(400, f"There is no {name} {given[name]!r}.")
        return LiveFilter(*(frozenset([value] if value else []) for value in given.values()))
