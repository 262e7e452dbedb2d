"""Django's part: `request.analytics`, who is logged in, and an identify call at each login.

`INSTALLED_APPS` gets "streams.tracking.django.Tracking", and `MIDDLEWARE`, after AuthenticationMiddleware,
"streams.tracking.django.attach". Both want the app that Django serves wrapped in AsgiTracking or WsgiTracking; without,
as under Django's test client, calls are taken and nothing is sent.
"""

from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any

from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_in
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

from streams.tracking.analytics import Analytics
from streams.tracking.requests import find_analytics, logged_in
from streams.tracking.tracker import Tracker
from streams.tracking.visit import WsgiVisit

_silent = Tracker(None)


class Tracking(AppConfig):
    """Sends `identify` at each login through django.contrib.auth."""

    name = "streams.tracking.django"
    label = "turnout_tracking"

    def ready(self) -> None:
        """Listen for logins."""
        user_logged_in.connect(_identify, dispatch_uid=self.label)


def _identify(sender: Any, request: HttpRequest | None, user: Any, **_: Any) -> None:  # noqa: ARG001
    logged_in(request, str(user.pk), user)


@sync_and_async_middleware
def attach(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Django middleware that gives each request its `analytics`, and that the user of whom the app has asked."""
    if iscoroutinefunction(get_response):

        async def serve_async(request: HttpRequest) -> HttpResponseBase:
            analytics = _attach(request)
            response: HttpResponseBase = await get_response(request)
            _note_user(request, analytics)
            return response

        return serve_async

    def serve(request: HttpRequest) -> HttpResponseBase:
        analytics = _attach(request)
        response: HttpResponseBase = get_response(request)
        _note_user(request, analytics)
        return response

    return serve


def _attach(request: HttpRequest) -> Analytics:
    analytics = find_analytics(request) or Analytics(_silent, WsgiVisit(request.META, _silent.resolve))
    analytics.visit.request = request
    request.analytics = analytics  # type: ignore[attr-defined]
    return analytics


def _note_user(request: HttpRequest, analytics: Analytics) -> None:
    """Know the user if the app has loaded them for this response; loading them here could cost a query."""
    user = getattr(request, "_cached_user", None) or getattr(request, "_acached_user", None)
    if user is not None and user.is_authenticated and analytics.user_id is None:
        analytics.user_id = str(user.pk)
