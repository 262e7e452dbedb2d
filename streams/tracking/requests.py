"""From a framework's request to its analytics."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streams.tracking.analytics import Analytics

NAME = "analytics"
"""The key in an ASGI scope's `state`, which Starlette and FastAPI show as `request.state.analytics`."""

WSGI_KEY = "turnout.analytics"
"""The key in a WSGI environ."""


def find_analytics(request: Any) -> "Analytics | None":
    """The analytics of a request of any framework, of an ASGI scope or a WSGI environ; None without the middleware."""
    for raw in (request, getattr(request, "scope", None), getattr(request, "environ", None)):
        if isinstance(raw, Mapping):
            found = raw.get(WSGI_KEY) or (raw.get("state") or {}).get(NAME)
            if found is not None:
                return found  # type: ignore[no-any-return]
    return None


def get_analytics(request: Any) -> "Analytics":
    """As `find_analytics`; raises LookupError without the middleware."""
    found = find_analytics(request)
    if found is None:
        raise LookupError("this request has no analytics: wrap the app in AsgiTracking or WsgiTracking")
    return found


def logged_in(request: Any, user_id: str | int, user: Any = None) -> None:
    """Send `identify` for a user who logs in: what a framework's login signal calls, or a login view.

    `user` is the framework's own, which the setting `traits` is asked with. Does nothing without the middleware.
    """
    analytics = find_analytics(request)
    if analytics is not None:
        analytics.log_in(user_id, user)
