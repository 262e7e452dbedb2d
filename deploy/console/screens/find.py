"""Find: what happened to one event."""

from collections.abc import Sequence
from typing import ClassVar

from starlette.requests import Request
from starlette.routing import Route

from deploy.console.pages import Page, Screen, page


class FindScreen(Screen):
    """The home page: one box for a messageId, a user, or a place in Kafka."""

    title: ClassVar[str] = "Find"
    path: ClassVar[str] = "/"
    key: ClassVar[str] = "f"

    def routes(self) -> Sequence[Route]:
        """Return the routes."""
        return page("/", self._show)

    async def _show(self, request: Request) -> Page:
        return Page("Find", "find.html", {"query": request.query_params.get("q", "").strip()})
