"""Django support: `request.analytics`, the logged-in user, and an identify call at each login.

Add "turnout_tracking.django.Tracking" to `INSTALLED_APPS`, and "turnout_tracking.django.attach" to `MIDDLEWARE` after
AuthenticationMiddleware. Both need the application wrapped in AsgiTracking or WsgiTracking. Otherwise, as with Django's
test client, calls are accepted but nothing is sent.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any

from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_in
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import sync_and_async_middleware
from django.utils.functional import LazyObject

from turnout_tracking.analytics import Analytics
from turnout_tracking.lookup import find_analytics, logged_in
from turnout_tracking.page_request import PageRequest, WsgiRequest
from turnout_tracking.tracker import Tracker

_silent = Tracker(None)


class Tracking(AppConfig):
    """Sends `identify` at each login through django.contrib.auth."""

    name = "turnout_tracking.django"
    label = "turnout_tracking"

    def ready(self) -> None:
        """Connect to the login signal."""
        user_logged_in.connect(_identify, dispatch_uid=self.label)


def _identify(sender: Any, request: HttpRequest | None, user: Any, **_: Any) -> None:  # noqa: ARG001
    logged_in(request, str(user.pk), user)


@sync_and_async_middleware
def attach(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Django middleware that sets `request.analytics`."""
    if iscoroutinefunction(get_response):

        async def serve_async(request: HttpRequest) -> HttpResponseBase:
            _attach(request)
            response: HttpResponseBase = await get_response(request)
            return response

        return serve_async

    def serve(request: HttpRequest) -> HttpResponseBase:
        _attach(request)
        response: HttpResponseBase = get_response(request)
        return response

    return serve


def _attach(request: HttpRequest) -> None:
    analytics = find_analytics(request) or Analytics(_silent, WsgiRequest(request.META, _silent.resolve))
    analytics.page_request.request = request
    analytics.framework_user = _loaded_user
    request.analytics = analytics  # type: ignore[attr-defined]


def _loaded_user(page_request: PageRequest) -> Any:
    """Return the key of the user if the app has already loaded it; loading it here could cost a query."""
    loaded = vars(page_request.request)
    given = loaded.get("user")  # a user object after a login; until then an object that loads it on first use
    eager = None if isinstance(given, LazyObject) else given
    for user in (eager, loaded.get("_cached_user"), loaded.get("_acached_user")):
        if user is not None and user.is_authenticated:
            return user.pk
    return None
