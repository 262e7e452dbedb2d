"""The calls of one request: who the visitor is, what the page is, and when which event is sent."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from os import register_at_fork, urandom
from time import time
from typing import Any
from uuid import uuid4

from streams.tracking import context, identity, pages
from streams.tracking.tracker import Tracker
from streams.tracking.visit import Visit


def _library() -> dict[str, str]:
    try:
        return {"name": "turnout-tracking", "version": version("turnout")}
    except PackageNotFoundError:
        return {"name": "turnout-tracking"}


LIBRARY = _library()


class MessageIds:
    """Ids for the events of one process: random once, then counted.

    Asking the system for each would hand the interpreter's lock over in the middle of a request.
    """

    def __init__(self) -> None:
        self.start_over()

    def start_over(self) -> None:
        """Begin anew, as a forked process must."""
        self._process = urandom(16).hex()
        self._numbers = count(1)

    def make(self) -> str:
        """An id that no other event has."""
        return f"turnout-{self._process}-{next(self._numbers)}"


_message_ids = MessageIds()
register_at_fork(after_in_child=_message_ids.start_over)


class Analytics:
    """What a view calls as `request.analytics`. Nothing here raises for what a request or an app brings, or waits.

    The page call is sent once, when the response is done; `track` and `identify` at once. `user_id` may be set by the
    app, and is then the user of all that follows in this request.
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
        "_kind",
        "_skipped",
        "_started",
        "_time",
        "_tracker",
        "_used",
        "_wanted",
        "user_id",
        "visit",
    )

    def __init__(self, tracker: Tracker, visit: Visit) -> None:
        self.visit = visit
        self.user_id: str | None = None
        self._tracker = tracker
        self._time = time()
        self._anonymous: str | None = None
        self._given = False
        self._context: dict[str, Any] | None = None
        self._added: dict[str, Any] = {}
        self._asked = self._skipped = self._used = False
        self._started = self._wanted = self._done = False
        self._kind = ""
        self._head: list[bytes] = []
        self._head_bytes = 0

    @property
    def anonymous_id(self) -> str:
        """The visitor's anonymous id: the cookie's, else one made for this request, and kept in a cookie if allowed."""
        if self._anonymous is None:
            found = self.visit.cookies.anonymous
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
        """Add to this request's page call, and have it sent whatever the settings skip; what comes later wins."""
        self._asked, self._skipped = True, False
        given = {"name": name, "category": category}
        self._added.update({key: value for key, value in given.items() if value is not None})
        for key, more in (("properties", properties), ("context", context), ("integrations", integrations)):
            if more:
                self._added[key] = {**self._added.get(key, {}), **more}

    def skip_page(self) -> None:
        """Have no page call sent for this request."""
        self._skipped = True

    def track(
        self,
        event: str,
        properties: Mapping[str, Any] | None = None,
        *,
        context: Mapping[str, Any] | None = None,
        integrations: Mapping[str, Any] | None = None,
    ) -> None:
        """Send that the visitor did something."""
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
        """Send who the visitor is, and know them by this id for the rest of the request."""
        if user_id is not None:
            self.user_id = str(user_id)
        self._send("identify", {"traits": dict(traits or {})}, time(), context, integrations)

    def log_in(self, user_id: str | int, user: Any = None) -> None:
        """Send `identify` for a user who logs in, with what the setting `traits` says of the framework's user."""
        self.identify(user_id, None if user is None else self._tracker.ask(self._tracker.traits, user))

    def start(self, status: int, headers: Mapping[str, str]) -> Sequence[tuple[str, str]]:
        """Hear that the response begins, with its headers by name in lower case; returns the headers to add to it."""
        self._started = True
        self._wanted = self._is_page(status, headers)
        if self._wanted and self._tracker.titles and not headers.get("content-encoding"):
            self._kind = headers.get("content-type", "")
        if not (self._wanted or self._used):
            return ()
        anonymous_id = self.anonymous_id
        if self._given or not self._tracker.ask(self._tracker.consent, self.visit):
            return ()
        private = identity.keep_private(headers)
        if private is None:
            return ()
        cookie = identity.set_cookie(
            anonymous_id, self._tracker.cookie_domain, secure=self.visit.origin.scheme == "https"
        )
        return [*private, ("Set-Cookie", cookie)]

    def read(self, chunk: bytes) -> None:
        """Hear a part of the response's body: the title may be in it."""
        if self._kind and self._head_bytes < pages.TITLE_WITHIN:
            self._head.append(chunk)
            self._head_bytes += len(chunk)

    def finish(self) -> None:
        """Hear that the response is done; sends the page call, once."""
        if self._done or not self._started:
            return
        self._done = True
        if (self._wanted or self._asked) and not self._skipped:
            self._send_page()

    def _is_page(self, status: int, headers: Mapping[str, str]) -> bool:
        if self._skipped or self._asked:
            return not self._skipped
        tracker, visit = self._tracker, self.visit
        return (
            visit.method in tracker.methods
            and status in tracker.statuses
            and not (tracker.skip_assets and pages.is_asset(visit, headers))
            and not (tracker.skip_prefetches and pages.is_prefetch(visit))
            and not (tracker.skip_bots and tracker.ask(tracker.is_bot, visit.header("user-agent")))
            and not (tracker.skip_paths and tracker.skips(visit.path))
            and not tracker.ask(tracker.skip, visit)
        )

    def _send_page(self) -> None:
        tracker, visit, added = self._tracker, self.visit, self._added
        page = self._shared_context()["page"]
        if self._kind:
            title = pages.find_title(b"".join(self._head)[: pages.TITLE_WITHIN], self._kind)
            if title:
                page["title"] = title
        name = added.get("name") or tracker.ask(tracker.name, visit)
        properties = {
            **page,
            "host": visit.origin.host,
            "query": visit.query,
            **(tracker.ask(tracker.properties, visit) or {}),
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
        user_id = self._find_user()
        if user_id:
            event["userId"] = user_id
        ids = self._vendor_ids(shared)
        if ids or integrations:
            event["integrations"] = _with_ids(integrations, ids) if integrations else ids
        self._tracker.send(event)

    def _find_user(self) -> str | None:
        if self.user_id:
            return self.user_id
        asked = self._tracker.ask(self._tracker.user, self.visit)
        if asked is not None and asked != "":
            return str(asked)
        return self.visit.cookies.user

    def _shared_context(self) -> dict[str, Any]:
        """The context of all of this request's events, made once."""
        if self._context is None:
            self._context = self._make_context()
        return self._context

    def _make_context(self) -> dict[str, Any]:
        visit = self.visit
        header = visit.headers.get
        query, path = visit.query, visit.path
        ip, scheme, host = visit.origin
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
        made.update(context.browser(visit.headers))
        if ip:
            made["ip"] = ip
        if query:
            campaign, clicks = context.campaign_and_clicks(query)
            if campaign:
                made["campaign"] = campaign
            if clicks:
                made["clickIds"] = clicks
        if self._tracker.vendor_cookies and visit.cookies.vendors:
            made["cookies"] = visit.cookies.vendors
        if header("sec-gpc") == "1":
            made["consent"] = {"globalPrivacyControl": True}
        more = self._tracker.ask(self._tracker.context, visit)
        return _merged(made, more) if more else made

    def _vendor_ids(self, shared: Mapping[str, Any]) -> Mapping[str, Mapping[str, str]]:
        if not self._tracker.vendor_cookies:
            return {}
        return context.vendor_ids(shared.get("cookies", {}), shared.get("clickIds", {}), int(self._time * 1000))


@lru_cache(4)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().removesuffix("+00:00")


def _merged(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Both, the second winning, with the objects in them merged too."""
    merged = {**base, **more}
    for name, value in more.items():
        before = base.get(name)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            merged[name] = {**before, **value}
    return merged


def _with_ids(given: Mapping[str, Any], ids: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """The app's choice of integrations with the vendors' ids, which turn no integration on that the app left out."""
    from streams.optout import canonical, opts_out  # here, so that an app's start loads nothing of the workers

    merged = dict(given)
    for name, fields in ids.items():
        if not opts_out({canonical(name)}, given):
            said = given.get(name)
            merged[name] = {**fields, **said} if isinstance(said, Mapping) else fields
    return merged
