"""Authenticate requests: write keys, rate limits, origins and client addresses."""

import base64
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple
from urllib.parse import parse_qs

from prometheus_client import Counter

from streams.collector import api
from streams.collector.errors import RequestError
from streams.collector.settings import CollectorSettings
from streams.collector.throttle import UNBOUNDED, Allowance, Throttle
from streams.observability import metrics
from streams.sources.source import Source, Sources, digest
from turnout_tracking.proxies import make_resolve

Headers = Mapping[bytes, bytes]

Fields = Iterable[tuple[bytes, bytes]]
"""All headers of a request, with repeated ones."""


MAX_KNOWN_SENDERS = 1000
"""Maximum number of remembered senders, by their write key or the headers that have it."""

MAX_KNOWN_BYTES = 256
"""Maximum length of a write key, or of the headers, that is remembered."""


class AuthenticatedSource(NamedTuple):
    """The authenticated source of a request, its remaining rate limit, and its counter of accepted events."""

    source: Source
    allowance: Allowance
    accepted: Counter


class Authenticator:
    """Find the source of each request; `sources` returns the current sources."""

    def __init__(self, settings: CollectorSettings, sources: Callable[[], Sources]) -> None:
        self._sources = sources
        self._throttle = Throttle()
        self._resolve = make_resolve(settings.trusted_proxies)
        self._known: dict[bytes | str, AuthenticatedSource] = {}
        self._known_sources: Sources | None = None

    def by_headers(self, headers: Headers) -> AuthenticatedSource | None:
        """Find the sender by the write key in a header, or None without a write key. Raises RequestError."""
        # A line break separates them, since no header has one.
        shown = headers.get(api.AUTHORIZATION, b"") + b"\n" + headers.get(api.WRITE_KEY, b"")
        if shown == b"\n":
            return None
        sender = self._find_known(shown)
        if sender is None:
            write_key = find_write_key(headers)
            if not write_key:
                return None
            sender = self._remember(shown, self.find_source(write_key), write_key)
        sender.allowance.take_request()
        return sender

    def by_query(self, query: bytes) -> AuthenticatedSource | None:
        """Find the sender by the query string, where RudderStack's beacon puts the write key: it cannot set headers."""
        found = parse_qs(query.decode("latin-1")).get("writeKey") if query else None
        return self.by_key(found[0]) if found else None

    def has_key(self, write_key: str) -> bool:
        """Return whether a source has this write key."""
        return self._sources().find(write_key) is not None

    def by_key(self, write_key: object) -> AuthenticatedSource:
        """Find the sender by write key and count the request; raises RequestError if the sender is not allowed."""
        known = self._find_known(write_key) if isinstance(write_key, str) else None
        if known is None:
            source = self.find_source(write_key)
            assert isinstance(write_key, str)  # `find_source` raises for anything else
            known = self._remember(write_key, source, write_key)
        known.allowance.take_request()
        return known

    def by_webhook(self, source: Source, headers: Headers) -> AuthenticatedSource:
        """Find the sender of a webhook delivery and count the request; raises RequestError if it is not allowed.

        A webhook without a signature requires a write key of its source.
        """
        _refuse_disabled(source)
        if source.webhook is not None and source.webhook.verify is not None:
            signed = self._authenticated(source, source.name)
            signed.allowance.take_request()
            return signed
        sender = self.by_headers(headers)
        if sender is None or sender.source is not source:
            raise _unauthorized()
        return sender

    def find_source(self, write_key: object) -> Source:
        """Find the source of a write key; raises RequestError if the key is unknown or disabled."""
        sources = self._sources()
        source = sources.find(write_key) if isinstance(write_key, str) else None
        if source is None:
            if isinstance(write_key, str) and (holder := sources.find_disabled(write_key)):
                metrics.COLLECTOR_DISABLED.labels(holder.name).inc()
                raise RequestError("key_disabled", "the write key is disabled")
            raise _unauthorized()
        _refuse_disabled(source)
        return source

    def visitor(self, peer: str, fields: Fields) -> str | None:
        """Return the client address of a browser's request, from its peer and the headers of trusted proxies."""
        return self._resolve(peer, _joined(fields, api.FORWARDED_FOR), _joined(fields, api.FORWARDED))[0]

    def allows(self, origin: bytes) -> bool:
        """Return whether any source allows this origin. A preflight request has no key, so it checks only this."""
        return self._sources().allows(origin.decode("latin-1"))

    def _authenticated(self, source: Source, key: str) -> AuthenticatedSource:
        allowance = self._throttle.find(digest(key), source) if source.limits.has_rates else UNBOUNDED
        return AuthenticatedSource(source, allowance, metrics.COLLECTOR_ACCEPTED.labels(source.name))

    def _find_known(self, shown: bytes | str) -> AuthenticatedSource | None:
        """Find a cached sender; the cache is cleared when the sources change."""
        sources = self._sources()
        if sources is not self._known_sources:
            self._known_sources = sources
            self._known.clear()
        return self._known.get(shown)

    def _remember(self, shown: bytes | str, source: Source, write_key: str) -> AuthenticatedSource:
        sender = self._authenticated(source, write_key)
        if len(self._known) < MAX_KNOWN_SENDERS and len(shown) <= MAX_KNOWN_BYTES:
            self._known[shown] = sender
        return sender


def check_origin(source: Source, headers: Headers) -> None:
    """Raise RequestError if the request's origin is not allowed for the source."""
    origin = headers.get(api.ORIGIN)
    if origin is not None and not source.allows(origin.decode("latin-1")):
        raise forbidden_origin()


def forbidden_origin() -> RequestError:
    """Make the error for an origin that is not allowed."""
    return RequestError("origin", "the source does not accept events from pages of this origin")


def _joined(fields: Fields, name: bytes) -> str | None:
    """Return all headers of one name joined by commas, or None without one."""
    values = [value for key, value in fields if key == name]
    return b",".join(values).decode("latin-1") if values else None


def find_write_key(headers: Headers) -> str | None:
    """Return the write key in a request's headers: the user of Basic authorization, or X-Write-Key.

    Raises RequestError if the authorization is not base64.
    """
    scheme, _, credentials = headers.get(api.AUTHORIZATION, b"").partition(b" ")
    if scheme.lower() == b"basic":
        try:
            login = base64.b64decode(credentials).decode()
        except ValueError:
            raise _unauthorized() from None
        # Jitsu's keys contain a colon, and no client uses a password.
        write_key = login[:-1] if login.endswith(":") else login.partition(":")[0]
        if write_key:
            return write_key
    return headers.get(api.WRITE_KEY, b"").decode("latin-1") or None


def _unauthorized() -> RequestError:
    return RequestError("unauthorized", "the write key is missing or unknown")


def _refuse_disabled(source: Source) -> None:
    if source.disabled:
        metrics.COLLECTOR_DISABLED.labels(source.name).inc()
        raise RequestError("source_disabled", "the source is disabled")
