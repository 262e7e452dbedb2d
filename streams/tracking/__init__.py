"""Page, track and identify calls from Python web apps, as ASGI and WSGI middleware.

It needs orjson and the standard library, so that a web app loads nothing of the workers: no Faust, and a Kafka client
only where events go to Kafka directly. deploy/docs/tracking.md shows it in each framework.
"""

from streams.tracking.analytics import Analytics
from streams.tracking.asgi import AsgiTracking
from streams.tracking.destinations import Kafka
from streams.tracking.requests import find_analytics, get_analytics, logged_in
from streams.tracking.tracker import Tracker
from streams.tracking.visit import Visit
from streams.tracking.wsgi import WsgiTracking

__all__ = [
    "Analytics",
    "AsgiTracking",
    "Kafka",
    "Tracker",
    "Visit",
    "WsgiTracking",
    "find_analytics",
    "get_analytics",
    "logged_in",
]
