"""Page, track and identify calls from Python web apps, as ASGI and WSGI middleware.

Needs only orjson and the standard library. Names are imported on first use, so that Turnout's own processes can use
single modules of this package without loading the middleware.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__all__ = [
    "Analytics",
    "AsgiTracking",
    "Kafka",
    "PageRequest",
    "Tracker",
    "WsgiTracking",
    "find_analytics",
    "get_analytics",
    "logged_in",
]

if TYPE_CHECKING:
    from turnout_tracking.analytics import Analytics
    from turnout_tracking.asgi import AsgiTracking
    from turnout_tracking.destinations import Kafka
    from turnout_tracking.lookup import find_analytics, get_analytics, logged_in
    from turnout_tracking.page_request import PageRequest
    from turnout_tracking.tracker import Tracker
    from turnout_tracking.wsgi import WsgiTracking
else:
    _MODULES = {
        "Analytics": "analytics",
        "AsgiTracking": "asgi",
        "Kafka": "destinations",
        "PageRequest": "page_request",
        "Tracker": "tracker",
        "WsgiTracking": "wsgi",
        "find_analytics": "lookup",
        "get_analytics": "lookup",
        "logged_in": "lookup",
    }

    def __getattr__(name: str) -> Any:
        if name == "Visit":
            # With `from turnout_tracking import Visit`, Python replaces the message of an AttributeError.
            raise ImportError("turnout_tracking.Visit is now turnout_tracking.PageRequest")
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
        return value
