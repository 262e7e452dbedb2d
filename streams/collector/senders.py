"""Whose a request is, and whether it is let in: write keys, rates, origins, addresses."""

import base64
from collections.abc import Callable, Mapping
from typing import NamedTuple

from starlette.types import Scope

from streams import metrics
from streams.collector.errors import RequestError
from streams.collector.settings import CollectorSettings
from streams.collector.throttle import UNBOUNDED, Allowance, Throttle
from streams.sources import Source, Sources, digest
from streams.tracking.proxies import make_resolve

Headers = Mapping[bytes, bytes]


class Sender(NamedTuple):
    """The source that a request's events belong to, and what the sender may still send."""

    source: Source
    allowance: Allowance


class Senders:
    """Finds the sender of each request; `sources` gives the sources in force."""

    def __init__(self, settings: CollectorSettings, sources: Callable[[], Sources]) -> None:
        self._sources = sources
        self._throttle = Throttle()
        self._resolve = make_resolve(settings.trusted_proxies)

    def by_authorization(self, headers: Headers) -> Sender | None:
        """The sender by the write key in Basic authorization; None when there is none. Raises RequestError."""
        write_key = _basic(headers)
        return self.by_key(write_key) if write_key else None

    def by_key(self, write_key: object) -> Sender:
        """The sender by its write key, whose request is counted; raises RequestError where it may not send."""
        source = self.find_source(write_key)
        assert isinstance(write_key, str)  # of what else there is no source
        return self._counted(source, write_key)

    def by_webhook(self, source: Source, headers: Headers) -> Sender:
        """The sender to a webhook, whose request is counted; raises RequestError where it may not send.

        Where no signature tells who sends, a write key of the source must.
        """
        _refuse_disabled(source)
        if source.webhook is not None and source.webhook.verify is not None:
            return self._counted(source, source.name)
        sender = self.by_authorization(headers)
        if sender is None or sender.source is not source:
            raise _unauthorized()
        return sender

    def find_source(self, write_key: object) -> Source:
        """The source of a write key; raises RequestError where nobody may send with it."""
        sources = self._sources()
        source = sources.find(write_key) if isinstance(write_key, str) else None
        if source is None:
            if isinstance(write_key, str) and (holder := sources.find_disabled(write_key)):
                metrics.COLLECTOR_DISABLED.labels(holder.name).inc()
                raise RequestError(401, "key_disabled", "the write key is disabled")
            raise _unauthorized()
        _refuse_disabled(source)
        return source

    def visitor(self, scope: Scope) -> str | None:
        """The address that a browser's request comes from, by the word of trusted proxies."""
        forwarded = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for")
        client = scope.get("client")
        return self._resolve(client[0] if client else "", forwarded.decode("latin-1"))[0]

    def admits(self, origin: bytes) -> bool:
        """Whether pages of this origin may send to any source: all that a preflight can ask."""
        return self._sources().admits(origin.decode("latin-1"))

    def _counted(self, source: Source, key: str) -> Sender:
        if not source.limits.has_rates:
            return Sender(source, UNBOUNDED)
        allowance = self._throttle.find(digest(key), source)
        allowance.take_request()
        return Sender(source, allowance)


def check_origin(source: Source, headers: Headers) -> None:
    """Raise RequestError for a page that may not send to the source."""
    origin = headers.get(b"origin")
    if origin is not None and not source.admits(origin.decode("latin-1")):
        raise forbidden_origin()


def forbidden_origin() -> RequestError:
    """The refusal of a page's origin."""
    return RequestError(403, "origin", "the source takes nothing from pages of this origin")


def _basic(headers: Headers) -> str | None:
    """The user of Basic authorization, where SDKs have the write key."""
    scheme, _, credentials = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        return base64.b64decode(credentials).partition(b":")[0].decode()
    except ValueError:
        raise _unauthorized() from None


def _unauthorized() -> RequestError:
    return RequestError(401, "unauthorized", "the write key is missing or not known")


def _refuse_disabled(source: Source) -> None:
    if source.disabled:
        metrics.COLLECTOR_DISABLED.labels(source.name).inc()
        raise RequestError(404, "source_disabled", "the source is disabled")
