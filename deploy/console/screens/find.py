"""Find: what happened to one event."""

from collections.abc import Sequence
from typing import ClassVar

from starlette.requests import Request
from starlette.routing import Route

from deploy.console.pages import ConsolePage, ConsoleScreen, page


class FindScreen(ConsoleScreen):
    """The home page: one box for a messageId, a user, or a place in Kafka."""

    title: ClassVar[str] = "Find"
    path: ClassVar[str] = "/"
    key: ClassVar[str] = "f"

    def routes(self) -> Sequence[Route]:
        """Return the routes."""
        return page("/", self._show)

    async def _show(self, request: Request) -> ConsolePage:
        return ConsolePage("Find", "find.html", {"query": request.query_params.get("q", "").strip()})
