"""Implement the analytics calls of one request: identify the visitor, describe the page, and send the events."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from os import register_at_fork, urandom
from time import time
from typing import Any
from uuid import uuid4

from turnout_tracking import context, identity, pages
from turnout_tracking.optout import canonical, opts_out
from turnout_tracking.page_request import PageRequest
from turnout_tracking.tracker import Tracker

log = logging.getLogger("turnout.tracking")

MAX_WAITING_EVENTS = 1_000
"""Maximum events of one request that wait until its user is known."""


def _library() -> dict[str, str]:
    try:
        return {"name": "turnout-tracking", "version": version("turnout-tracking")}
    except PackageNotFoundError:
        return {"name": "turnout-tracking"}


LIBRARY = _library()


class MessageIds:
    """Message IDs for the events of one process: a random prefix and a counter.

    Reading random bytes for each event would release the interpreter lock in the middle of a request.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Choose a new prefix, as a forked process must."""
        self._process = urandom(16).hex()
        self._numbers = count(1)

    def make(self) -> str:
        """Return a unique ID."""
        return f"turnout-{self._process}-{next(self._numbers)}"


_message_ids = MessageIds()
register_at_fork(after_in_child=_message_ids.reset)


class Analytics:
    """The analytics of one request, which a view calls as `request.analytics`.

    No call blocks, or raises because of a request or of what the app passes. The page call is sent once, when the
    response is complete. `track` and `identify` are sent as soon as the user is known, at the latest when the response
    begins, so that all events of a request have the same user. An app may set `user_id`, which applies to all later
    events of the request.
    """

    __slots__ = (
        "_added",
        "_anonymous",
        "_asked",
        "_context",
        "_done",
        "_given",
        "_head",
        "_head_bytes",
        "_is_tracked",
        "_kind",
        "_skipped",
        "_started",
        "_time",
        "_tracker",
        "_used",
        "_user",
        "_user_is_final",
        "_waiting",
        "framework_user",
        "page_request",
        "user_id",
    )

    def __init__(self, tracker: Tracker, page_request: PageRequest) -> None:
        self.page_request = page_request
        self.user_id: str | None = None
        self.framework_user: Callable[[PageRequest], Any] | None = None
        self._tracker = tracker
        self._time = time()
        self._anonymous: str | None = None
        self._given = False
        self._user: str | None = None
        self._user_is_final = False
        self._waiting: deque[tuple[bytes, str | None]] = deque()
        self._context: dict[str, Any] | None = None
        self._added: dict[str, Any] = {}
        self._asked = self._skipped = self._used = False
        self._started = self._is_tracked = self._done = False
        self._kind = ""
        self._head: list[bytes] = []
        self._head_bytes = 0

    @property
    def anonymous_id(self) -> str:
        """The visitor's anonymous ID: from the cookie, else a new one, which is set as a cookie if that is allowed."""
        if self._anonymous is None:
            found = self.page_request.cookies.anonymous
            self._given = found is not None
            self._anonymous = found or str(uuid4())
        return self._anonymous

    def page(
        self,
        name: str | None = None,
        properties: Mapping[str, Any] | None = None,
        *,
        category: str | None = None,
        context: Mapping[str, Any] | None = None,
        integrations: Mapping[str, Any] | None = None,
    ) -> None:
        """Add to this request's page call, and send it even if the settings would skip it; later calls win."""
        self._asked, self._skipped = True, False
        given = {"name": name, "category": category}
        self._added.update({key: value for key, value in given.items() if value is not None})
        for key, more in (("properties", properties), ("context", context), ("integrations", integrations)):
            if more:
                self._added[key] = {**self._added.get(key, {}), **more}

    def skip_page(self) -> None:
        """Send no page call for this request."""
        self._skipped = True

    def track(
        self,
        event: str,
        properties: Mapping[str, Any] | None = None,
        *,
        context: Mapping[str, Any] | None = None,
        integrations: Mapping[str, Any] | None = None,
    ) -> None:
        """Send an event of the visitor."""
        body = {"event": event, "properties": dict(properties or {})}
        self._send("track", body, time(), context, integrations)

    def identify(
        self,
        user_id: str | int | None = None,
        traits: Mapping[str, Any] | None = None,
        *,
        context: Mapping[str, Any] | None = None,
        integrations: Mapping[str, Any] | None = None,
    ) -> None:
        """Identify the visitor; later events of this request have this user ID."""
        if user_id is not None:
            self.user_id = str(user_id)
        self._send("identify", {"traits": dict(traits or {})}, time(), context, integrations)

    def log_in(self, user_id: str | int, user: Any = None) -> None:
        """Send `identify` for a user who logs in, with the traits that the setting `traits` returns for `user`."""
        self.identify(user_id, None if user is None else self._tracker.ask(self._tracker.traits, user))

    def start(self, status: int, headers: Mapping[str, str]) -> Sequence[tuple[str, str]]:
        """Record the start of the response, with its headers by lower-case name; returns the headers to add to it."""
        self._started = True
        self._is_tracked = self._is_page(status, headers)
        if self._is_tracked or self._waiting:
            self._settle_user()
        if self._is_tracked and self._tracker.titles and not headers.get("content-encoding"):
            self._kind = headers.get("content-type", "")
        if not (self._is_tracked or self._used):
            return ()
        anonymous_id = self.anonymous_id
        if self._given or not self._tracker.ask(self._tracker.consent, self.page_request):
            return ()
        private = identity.keep_private(headers)
        if private is None:
            return ()
        origin = self.page_request.origin
        self._tracker.check_cookie_domain(origin.host)
        cookie = identity.set_cookie(anonymous_id, self._tracker.cookie_domain, secure=origin.scheme == "https")
        return [*private, ("Set-Cookie", cookie)]

    def read(self, chunk: bytes) -> None:
        """Search a chunk of the response's body for the title."""
        if self._kind and self._head_bytes < pages.TITLE_SEARCH_BYTES:
            self._head.append(chunk)
            self._head_bytes += len(chunk)

    def finish(self) -> None:
        """End the request, and send its page call; does nothing if called again."""
        if self._done:
            return
        self._done = True
        if self._waiting:
            self._settle_user()
        if self._started and (self._is_tracked or self._asked) and not self._skipped:
            self._send_page()

    def finish_safely(self) -> None:
        """End the request as `finish` does, and log any error instead of raising it."""
        try:
            self.finish()
        except Exception as error:  # noqa: BLE001  # the response must go out even if tracking fails
            log.error("page not tracked: %s", type(error).__name__)  # noqa: TRY400

    def _is_page(self, status: int, headers: Mapping[str, str]) -> bool:
        if self._skipped or self._asked:
            return not self._skipped
        tracker, request = self._tracker, self.page_request
        return (
            request.method in tracker.methods
            and status in tracker.statuses
            and not (tracker.skip_assets and pages.is_asset(request, headers))
            and not (tracker.skip_prefetches and pages.is_prefetch(request))
            and not (tracker.skip_bots and tracker.ask(tracker.is_bot, request.header("user-agent")))
            and not (tracker.skip_paths and tracker.skips(request.path))
            and not tracker.ask(tracker.skip, request)
        )

    def _send_page(self) -> None:
        tracker, request, added = self._tracker, self.page_request, self._added
        page = self._shared_context()["page"]
        if self._kind:
            title = pages.find_title(b"".join(self._head)[: pages.TITLE_SEARCH_BYTES], self._kind)
            if title:
                page["title"] = title
        name = added.get("name") or tracker.ask(tracker.name, request)
        properties = {
            **page,
            "host": request.origin.host,
            "query": request.query,
            **(tracker.ask(tracker.properties, request) or {}),
            **added.get("properties", {}),
        }
        body: dict[str, Any] = {"name": name} if name else {}
        if "category" in added:
            body["category"] = added["category"]
        body["properties"] = properties
        self._send("page", body, self._time, added.get("context"), added.get("integrations"))

    def _send(
        self,
        kind: str,
        body: dict[str, Any],
        seconds: float,
        added: Mapping[str, Any] | None,
        integrations: Mapping[str, Any] | None,
    ) -> None:
        self._used = True
        shared = self._shared_context()
        event: dict[str, Any] = {
            "type": kind,
            "messageId": _message_ids.make(),
            "anonymousId": self.anonymous_id,
            "timestamp": f"{_second(int(seconds))}.{int(seconds % 1 * 1000):03}Z",
            **body,
            "context": _merged(shared, added) if added else shared,
        }
        ids = self._vendor_ids(shared)
        if ids or integrations:
            event["integrations"] = _with_ids(integrations, ids) if integrations else ids
        # Encoded at once, since the app may change the objects it passed.
        value = self._tracker.encode(event)
        if value is None:
            return
        self._waiting.append((value, str(self.user_id) if self.user_id else self._find_user()))
        if self._started or len(self._waiting) >= MAX_WAITING_EVENTS:
            self._settle_user()
        elif self._user:
            self._release()

    def _find_user(self) -> str | None:
        """Return the user of the request: the first one that is found, which may be after the first event."""
        if self._user is None and not self._user_is_final:
            for source in (self._tracker.user, self.framework_user):
                found = self._tracker.ask(source, self.page_request)
                if found is not None and found != "":
                    self._user = str(found)
                    break
        return self._user

    def _settle_user(self) -> None:
        """Determine the user of the request, and send the events that wait for it."""
        if not self._user_is_final:
            self._user = self._find_user() or self.page_request.cookies.user
            self._user_is_final = True
        self._release()

    def _release(self) -> None:
        # A view may track from several threads, so another one may empty the queue at the same time.
        while self._waiting:
            try:
                value, user_id = self._waiting.popleft()
            except IndexError:
                return
            self._tracker.put(value, self.anonymous_id, user_id or self._user)

    def _shared_context(self) -> dict[str, Any]:
        """Return the context that all events of this request share."""
        if self._context is None:
            self._context = self._make_context()
        return self._context

    def _make_context(self) -> dict[str, Any]:
        request = self.page_request
        header = request.headers.get
        query, path = request.query, request.path
        ip, scheme, host = request.origin
        search = f"?{query}" if query else ""
        made: dict[str, Any] = {
            "library": LIBRARY,
            "page": {
                "url": f"{scheme}://{host}{path}{search}",
                "path": path,
                "search": search,
                "referrer": header("referer", ""),
            },
        }
        made.update(context.browser(request.headers))
        if ip:
            made["ip"] = ip
        if query:
            campaign, clicks = context.campaign_and_clicks(query)
            if campaign:
                made["campaign"] = campaign
            if clicks:
                made["clickIds"] = clicks
        if self._tracker.vendor_cookies and request.cookies.vendors:
            made["cookies"] = request.cookies.vendors
        if header("sec-gpc") == "1":
            made["consent"] = {"globalPrivacyControl": True}
        more = self._tracker.ask(self._tracker.context, request)
        return _merged(made, more) if more else made

    def _vendor_ids(self, shared: Mapping[str, Any]) -> Mapping[str, Mapping[str, str]]:
        if not self._tracker.vendor_cookies:
            return {}
        return context.vendor_ids(shared.get("cookies", {}), shared.get("clickIds", {}), int(self._time * 1000))


@lru_cache(4)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat().removesuffix("+00:00")


def _merged(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two levels of objects; `more` wins."""
    merged = {**base, **more}
    for name, value in more.items():
        before = base.get(name)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            merged[name] = {**before, **value}
    return merged


def _with_ids(given: Mapping[str, Any], ids: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Add the vendors' IDs to the app's choice of integrations, except to integrations that the app turned off."""
    merged = dict(given)
    for name, fields in ids.items():
        if not opts_out({canonical(name)}, given):
            options = given.get(name)
            merged[name] = {**fields, **options} if isinstance(options, Mapping) else fields
    return merged
