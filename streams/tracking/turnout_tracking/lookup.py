"""Find the analytics object of a framework's request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from turnout_tracking.analytics import Analytics

NAME = "analytics"
"""The key in an ASGI scope's `state`, which Starlette and FastAPI expose as `request.state.analytics`."""

WSGI_KEY = "turnout.analytics"
"""The key in a WSGI environ."""


def find_analytics(request: Any) -> Analytics | None:
    """Return the analytics of a framework's request, an ASGI scope or a WSGI environ; None without the middleware."""
    for raw in (request, getattr(request, "scope", None), getattr(request, "environ", None)):
        if isinstance(raw, Mapping):
            found = raw.get(WSGI_KEY) or (raw.get("state") or {}).get(NAME)
            if found is not None:
                return found  # type: ignore[no-any-return]
    return None


def get_analytics(request: Any) -> Analytics:
    """Return the analytics of a request as `find_analytics` does; raises LookupError without the middleware."""
    found = find_analytics(request)
    if found is None:
        raise LookupError("this request has no analytics: wrap the app in AsgiTracking or WsgiTracking")
    return found


def logged_in(request: Any, user_id: str | int, user: Any = None) -> None:
    """Send `identify` for a user who logs in. Call it from a framework's login signal or a login view.

    `user` is the framework's user object; the setting `traits` is called with it. Does nothing without the middleware.
    """
    analytics = find_analytics(request)
    if analytics is not None:
        analytics.log_in(user_id, user)
