"""Configure an app's tracking, and queue its events."""

from __future__ import annotations

import atexit
import logging
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fnmatch import translate
from typing import Any

import orjson

from turnout_tracking.destinations import Collector, Destination, Item, Kafka, SendResult
from turnout_tracking.identity import cookie_is_kept
from turnout_tracking.page_request import PageRequest
from turnout_tracking.pages import is_bot
from turnout_tracking.proxies import Resolve, make_resolve
from turnout_tracking.sender import Sender

log = logging.getLogger("turnout.tracking")

PAGE_STATUSES = frozenset((*range(200, 300), 304))
"""Statuses of responses that show a page; with 304 the browser shows its copy."""


def allows_by_default(request: PageRequest) -> bool:
    """Return whether the request has no Global Privacy Control signal."""
    return request.header("sec-gpc") != "1"


@dataclass(eq=False)
class Tracker:
    """Configures where events go, and which are sent. Make one per app; it may be made before a fork.

    The callables get the `PageRequest`, run in the app, and must not block. If one raises, the error is logged, and the
    result counts as None.
    """

    to: str | Kafka | None
    """The collector's URL, or `Kafka(…)`; None sends nothing, for tests and development."""
    write_key: str = field(default="", repr=False)
    """The write key of the source; required for a collector."""
    cookie_domain: str | None = None
    """The domain of the anonymous ID's cookie: the domain that the site's hosts share. Leave it unset on localhost."""
    consent: Callable[[PageRequest], bool] = allows_by_default
    """Whether the anonymous ID may be kept in a cookie; by default, if the request has no Sec-GPC."""
    user: Callable[[PageRequest], str | int | None] | None = None
    """The ID of the logged-in user; by default the cookie `ajs_user_id`."""
    name: Callable[[PageRequest], str | None] | None = None
    """The page's name, called after the response."""
    properties: Callable[[PageRequest], Mapping[str, Any] | None] | None = None
    """Additional properties of a page call, called after the response."""
    context: Callable[[PageRequest], Mapping[str, Any] | None] | None = None
    """Additional context of each event, such as `{"consent": {"categoryPreferences": …}}`."""
    traits: Callable[[Any], Mapping[str, Any] | None] | None = None
    """The traits of a user who logs in, called with the framework's user object; by default none are sent."""
    trusted_proxies: Sequence[str] = ()
    """Addresses and networks of proxies whose X-Forwarded-For, -Proto and -Host are trusted; `unix` for a socket."""
    skip: Callable[[PageRequest], bool] | None = None
    """Your own rule for requests that are not pages, called when the response begins."""
    skip_paths: Sequence[str] = ()
    """Paths that are not pages, as shell patterns: `/health`, `/admin/*`."""
    methods: Collection[str] = frozenset(("GET",))
    """Methods of requests that may be pages."""
    statuses: Collection[int] = PAGE_STATUSES
    """Statuses of responses that may be pages; by default 200 to 299 and 304."""
    skip_bots: bool = True
    """Whether to skip requests of crawlers, monitors and scripts."""
    is_bot: Callable[[str], bool] = is_bot
    """Whether a User-Agent belongs to a bot."""
    skip_assets: bool = True
    """Whether to skip responses that are not HTML documents opened by a visitor."""
    skip_prefetches: bool = True
    """Whether to skip pages that a browser fetches before the visitor opens them."""
    titles: bool = True
    """Whether to read the title from the page's HTML."""
    vendor_cookies: bool = True
    """Whether to send the cookies of vendors' browser tags (`_ga`, `_fbp`, …)."""
    queue_events: int = 10_000
    """Maximum events in the queue; further ones are dropped and counted."""
    queue_bytes: int = 16 * 1024 * 1024
    """Maximum bytes of events in the queue."""
    batch_events: int = 100
    """Maximum number of events per request."""
    interval: float = 0.5
    """Seconds to collect events for the same request."""
    timeout: float = 10.0
    """Seconds to wait for the collector's response."""
    retry_for: float = 600.0
    """Seconds to retry a batch before it is dropped and counted."""
    flush_timeout: float = 5.0
    """Seconds that the process waits at exit for events to be sent."""
    on_drop: Callable[[str, int], None] | None = None
    """Called with the reason and the number of dropped events, for the app's own metrics."""

    resolve: Resolve = field(init=False, repr=False)

    def __new__(cls, *positional: Any, **_settings: Any) -> Tracker:  # noqa: PYI034  # Self needs Python 3.11
        """Reject positional settings, as `dataclasses.KW_ONLY` does from Python 3.10 on."""
        if len(positional) > 2:
            raise TypeError("Tracker takes `to` and `write_key` by position; pass every other setting by name")
        return super().__new__(cls)

    def __post_init__(self) -> None:
        """Raises ValueError if a setting is invalid."""
        if self.cookie_domain is not None and not re.fullmatch(
            r"\.?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*", self.cookie_domain
        ):
            raise ValueError(f"cookie_domain must be a domain, such as example.com, not {self.cookie_domain!r}")
        self._cookie_domain_checked = self.cookie_domain is None
        self.resolve = make_resolve(self.trusted_proxies)
        self._skipped_path = re.compile("|".join(map(translate, self.skip_paths)) or r"(?!)").match
        self._sender = Sender(
            self._destination(),
            queue_events=self.queue_events,
            queue_bytes=self.queue_bytes,
            batch_events=self.batch_events,
            interval=self.interval,
            retry_for=self.retry_for,
            on_drop=self.on_drop,
        )
        atexit.register(self._sender.finish, self.flush_timeout)

    def _destination(self) -> Destination:
        if isinstance(self.to, str):
            return Collector(self.to, self.write_key, self.timeout)
        return self.to or _Nowhere()

    def skips(self, path: str) -> bool:
        """Return whether a path matches `skip_paths`."""
        return self._skipped_path(path) is not None

    def check_cookie_domain(self, host: str) -> None:
        """Log once that browsers discard a cookie for `cookie_domain` if `host` (with or without port) is not in it."""
        if self._cookie_domain_checked or self.cookie_domain is None or cookie_is_kept(host, self.cookie_domain):
            return
        self._cookie_domain_checked = True
        log.warning(
            "cookie_domain is %r, but this request is for the host %.100r: browsers discard the cookie"
            " ajs_anonymous_id there, and each page counts as a new visitor."
            " Leave cookie_domain unset in development, or set it to the domain of the site's hosts",
            self.cookie_domain,
            host,
        )

    def ask(self, question: Callable[..., Any] | None, *arguments: Any) -> Any:
        """Call one of the app's callables; None without one, or if it raises."""
        if question is None:
            return None
        try:
            return question(*arguments)
        except Exception as error:  # noqa: BLE001  # the app's own code must not break the response
            name = getattr(question, "__qualname__", type(question).__name__)
            log.error("%s raised %s", name, type(error).__name__)  # noqa: TRY400
            return None

    def send(self, event: Mapping[str, Any]) -> bool:
        """Queue an event; False if it was dropped since the queue is full, or since it is not JSON or exceeds 32 KB."""
        value = self.encode(event)
        return value is not None and self._sender.put((event.get("userId") or event["anonymousId"]).encode(), value)

    def encode(self, value: Any) -> bytes | None:
        """Encode a value as JSON; None if that is impossible, after counting a dropped event."""
        try:
            return orjson.dumps(value, default=_encode_other)
        except TypeError as error:
            self._sender.drop("not_json", 1, str(error))
            return None

    def put(self, event: bytes, anonymous_id: str, user_id: str | None) -> bool:
        """Queue an encoded event that has no userId yet; False if it was dropped."""
        if user_id is None:
            return self._sender.put(anonymous_id.encode(), event)
        encoded = self.encode(user_id)
        return encoded is not None and self._sender.put(user_id.encode(), b'%b,"userId":%b}' % (event[:-1], encoded))

    @property
    def counts(self) -> Mapping[str, int]:
        """Events by outcome: `sent`; dropped as `full`, `too_large`, `not_json`, `refused`, `expired`, `failed` or
        `exit`; and the number of `retries`.
        """
        return dict(self._sender.counts)

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all events are sent, `flush_timeout` seconds by default; False if some are left."""
        return self._sender.flush(self.flush_timeout if timeout is None else timeout)


class _Nowhere:
    def open(self) -> _Nowhere:
        return self

    def send(self, items: Sequence[Item]) -> SendResult:  # noqa: ARG002
        return SendResult()


def _encode_other(value: Any) -> Any:
    """Convert common values that JSON lacks: decimals, sets, and Django's lazy translations."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, (set, frozenset)):
        return list(value)
    if type(value).__name__ == "__proxy__":  # what Django's gettext_lazy returns
        return str(value)
    raise TypeError
