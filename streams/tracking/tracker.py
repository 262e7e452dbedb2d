"""What an app says once about its tracking."""

import atexit
import logging
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from decimal import Decimal
from fnmatch import translate
from typing import Any

import orjson

from streams.tracking.destinations import Answer, Collector, Item, Kafka
from streams.tracking.pages import is_bot
from streams.tracking.proxies import Resolve, make_resolve
from streams.tracking.sender import Sender
from streams.tracking.visit import Visit

log = logging.getLogger("turnout.tracking")

SEEN = frozenset((*range(200, 300), 304))
"""Statuses of responses that somebody sees a page by; with 304 the browser shows the copy that it has."""


def allows_by_default(visit: Visit) -> bool:
    """Consent where the browser does not ask not to be tracked by Global Privacy Control."""
    return visit.header("sec-gpc") != "1"


@dataclass(eq=False)
class Tracker:
    """Where events go, and which: one for an app, shared by its requests, safe to make before a fork.

    The callables are given the `Visit`, run within the app, and must not block; one that raises is logged, and counts
    as if it had returned None.
    """

    to: str | Kafka | None
    """The collector's URL, or `Kafka(…)`; None sends nothing, as tests and development may want."""
    write_key: str = field(default="", repr=False)
    """The write key of the source, which a collector wants."""

    _: KW_ONLY
    cookie_domain: str | None = None
    """The domain that the anonymous id's cookie is set for: the one that the site's hosts share."""
    consent: Callable[[Visit], bool] = allows_by_default
    """Whether the anonymous id may be kept in a cookie; by default, when the request has no Sec-GPC."""
    user: Callable[[Visit], str | int | None] | None = None
    """The id of the user that is logged in, asked when the event is made; by default the cookie `ajs_user_id` tells."""
    name: Callable[[Visit], str | None] | None = None
    """The page's name, asked after the response."""
    properties: Callable[[Visit], Mapping[str, Any] | None] | None = None
    """Further properties of a page call, asked after the response."""
    context: Callable[[Visit], Mapping[str, Any] | None] | None = None
    """Further context of each event, such as `{"consent": {"categoryPreferences": …}}`."""
    traits: Callable[[Any], Mapping[str, Any] | None] | None = None
    """The traits of a user who logs in, given the framework's own user; by default none are sent."""
    trusted_proxies: Sequence[str] = ()
    """Addresses and networks of proxies whose X-Forwarded-For, -Proto and -Host are believed; `unix` for a socket."""
    skip: Callable[[Visit], bool] | None = None
    """Requests that are no pages, by a rule of the app's own, asked when the response begins."""
    skip_paths: Sequence[str] = ()
    """Paths that are no pages, as shell patterns: `/health`, `/admin/*`."""
    methods: Collection[str] = frozenset(("GET",))
    """Methods of requests that may be pages."""
    statuses: Collection[int] = SEEN
    """Statuses of responses that may be pages; by default 200 to 299 and 304."""
    skip_bots: bool = True
    """Whether what a crawler, monitor or script fetches is no page."""
    is_bot: Callable[[str], bool] = is_bot
    """Whether a User-Agent is a bot's."""
    skip_assets: bool = True
    """Whether what is no HTML document that somebody navigated to is no page."""
    skip_prefetches: bool = True
    """Whether what a browser fetches before anybody asks to see it is no page."""
    titles: bool = True
    """Whether the title is read from the page's HTML."""
    vendor_cookies: bool = True
    """Whether the cookies of vendors' browser tags (`_ga`, `_fbp`, …) are sent along."""
    queue_events: int = 10_000
    """Events that may wait; those that come while so many do are dropped, and counted."""
    queue_bytes: int = 16 * 1024 * 1024
    """Bytes of events that may wait."""
    batch_events: int = 100
    """Most events in one request."""
    interval: float = 0.5
    """Seconds that an event may wait for others to go with it."""
    timeout: float = 10.0
    """Seconds that the collector has to answer."""
    retry_for: float = 600.0
    """Seconds that a batch is sent again and again before it is dropped, and counted."""
    flush_timeout: float = 5.0
    """Seconds that the end of the process waits for events to be sent."""
    on_drop: Callable[[str, int], None] | None = None
    """Hears why events were dropped, and how many: for the app's own metrics."""

    resolve: Resolve = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Raises ValueError where a setting is none."""
        if self.cookie_domain is not None and not re.fullmatch(
            r"\.?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*", self.cookie_domain
        ):
            raise ValueError(f"cookie_domain is a domain, example.com, and not {self.cookie_domain!r}")
        self.resolve = make_resolve(self.trusted_proxies)
        self._skipped_path = re.compile("|".join(map(translate, self.skip_paths)) or r"(?!)").match
        destination = Collector(self.to, self.write_key, self.timeout) if isinstance(self.to, str) else self.to
        self._sender = Sender(
            destination or _Nowhere(),
            queue_events=self.queue_events,
            queue_bytes=self.queue_bytes,
            batch_events=self.batch_events,
            interval=self.interval,
            retry_for=self.retry_for,
            on_drop=self.on_drop,
        )
        atexit.register(self._sender.finish, self.flush_timeout)

    def skips(self, path: str) -> bool:
        """Whether a path is among `skip_paths`."""
        return self._skipped_path(path) is not None

    def ask(self, question: Callable[..., Any] | None, *arguments: Any) -> Any:
        """What one of the app's callables says; None where there is none, or where it raises."""
        if question is None:
            return None
        try:
            return question(*arguments)
        except Exception as error:  # noqa: BLE001  # whatever it is, the response must not suffer
            name = getattr(question, "__qualname__", type(question).__name__)
            log.error("%s raised %s", name, type(error).__name__)  # noqa: TRY400
            return None

    def send(self, event: Mapping[str, Any]) -> bool:
        """Queue an event; False where it was dropped: the queue is full, or the event is no JSON or over 32 KB."""
        try:
            value = orjson.dumps(event, default=_plain)
        except TypeError as error:
            self._sender.drop("not_json", 1, str(error))
            return False
        return self._sender.put((event.get("userId") or event["anonymousId"]).encode(), value)

    @property
    def counts(self) -> Mapping[str, int]:
        """Events by what became of them: `sent`; dropped as `full`, `too_large`, `not_json`, `refused`, `expired`,
        `failed` or `exit`; and the number of `retries`.
        """
        return dict(self._sender.counts)

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all is sent, `flush_timeout` seconds by default; False where something is left."""
        return self._sender.flush(self.flush_timeout if timeout is None else timeout)


class _Nowhere:
    def open(self) -> "_Nowhere":
        return self

    def send(self, items: Sequence[Item]) -> Answer:  # noqa: ARG002
        return Answer()


def _plain(value: Any) -> Any:
    """What apps put into properties and JSON lacks: money, sets, and translations that are made when they are shown."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, set | frozenset):
        return list(value)
    if type(value).__name__ == "__proxy__":  # what Django's gettext_lazy returns
        return str(value)
    raise TypeError
