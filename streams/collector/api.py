"""The HTTP API: paths, methods and headers. The app uses these declarations; deploy/docs/http-api.md lists them."""

import re
from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from streams import events

WEBHOOKS = "/v1/webhook/"
SETTINGS = "/v1/projects/{write_key}/settings"
SETTINGS_WITHOUT_VERSION = "/projects/{write_key}/settings"
SOURCE_CONFIG = "/sourceConfig"
HEALTH = "/health"
READY = "/ready"


class Action(Enum):
    """How a path handles requests."""

    EVENT = "takes one event"
    BATCH = "takes a batch of events"
    PIXEL = "takes one event by its query string or form, and returns an image"
    METRICS = "ignores metrics that a client sends about itself"
    OTHER = "answers without taking events"


class Endpoint(NamedTuple):
    """Paths with the same handling. TYPE in a path is an event type, or its first letter."""

    paths: tuple[str, ...]
    methods: tuple[str, ...]
    action: Action
    about: str


ENDPOINTS = (
    Endpoint(
        ("/v1/TYPE", "/TYPE"),
        ("POST",),
        Action.EVENT,
        "One event. An event without `type` gets the one in the path.",
    ),
    Endpoint(("/api/s/TYPE", "/api/s/s2s/TYPE"), ("POST",), Action.EVENT, "One event, as Jitsu's clients send it."),
    Endpoint(
        ("/api/s/event", "/api/s/s2s/event", "/api/s/e", "/api/s/s2s/e"),
        ("POST",),
        Action.EVENT,
        "One event with a `type`, as Jitsu's clients send it.",
    ),
    Endpoint(
        ("/v1/batch", "/batch", "/v1/b", "/b", "/v1/import", "/import"),
        ("POST",),
        Action.BATCH,
        'A batch: `{"batch": [event, …]}`, with `context`, `integrations` and `sentAt` for all of its events.',
    ),
    Endpoint(
        ("/beacon/v1/batch",),
        ("POST",),
        Action.BATCH,
        "A batch, as RudderStack's browser client sends it with `sendBeacon`.",
    ),
    Endpoint(("/api/s/batch", "/api/s/s2s/batch"), ("POST",), Action.BATCH, "A batch, as Jitsu's clients send it."),
    Endpoint(
        ("/v1/pixel/TYPE", "/pixel/v1/TYPE", "/api/px/TYPE"),
        ("GET", "HEAD", "POST"),
        Action.PIXEL,
        "One event in the query string or in a form. Always returns an image. HEAD takes no event.",
    ),
    Endpoint(("/v1/m", "/m"), ("POST",), Action.METRICS, "Metrics that a browser client sends about itself; ignored."),
    Endpoint(
        (SETTINGS, SETTINGS_WITHOUT_VERSION),
        ("GET", "HEAD", "OPTIONS"),
        Action.OTHER,
        "Settings for Segment's clients; 404 for an unknown write key.",
    ),
    Endpoint(
        (SOURCE_CONFIG,),
        ("GET", "HEAD", "OPTIONS"),
        Action.OTHER,
        "Settings for RudderStack's clients; 404 for an unknown write key.",
    ),
    Endpoint((HEALTH,), ("GET", "HEAD"), Action.OTHER, "200 while the process runs."),
    Endpoint((READY,), ("GET", "HEAD"), Action.OTHER, "200 if Kafka answers, 503 if not."),
)


class Target(NamedTuple):
    """The handling of one path. `kind` is the default type of its events."""

    action: Action
    methods: tuple[str, ...]
    kind: str | None = None


def _expand(endpoint: Endpoint) -> Mapping[str, Target]:
    targets = {}
    for path in endpoint.paths:
        if "TYPE" not in path:
            targets[path] = Target(endpoint.action, endpoint.methods)
            continue
        for kind in events.TYPES:
            target = Target(endpoint.action, endpoint.methods, kind)
            targets[path.replace("TYPE", kind)] = targets[path.replace("TYPE", kind[0])] = target
    return targets


PATHS: Mapping[str, Target] = {
    path: target
    for endpoint in ENDPOINTS
    if endpoint.action is not Action.OTHER
    for path, target in _expand(endpoint).items()
}
"""The paths that take events. They bypass Starlette's routing, which is slow for small requests."""

_OTHERS = (SOURCE_CONFIG, HEALTH, READY)
_RESERVED = ("/v1/", "/projects/")


def methods(path: str) -> tuple[str, ...]:
    """Return the methods of a declared path."""
    return next(endpoint.methods for endpoint in ENDPOINTS if path in endpoint.paths)


def clean(path: str) -> str:
    """Remove repeated and trailing slashes from a path; clients add them if their configured host ends with one."""
    return re.sub("/{2,}", "/", path).rstrip("/") or "/"


def check_free(path: str) -> str:
    """Return the path if a webhook or script may use it; raises ValueError if the API uses it."""
    if path in PATHS or path in _OTHERS or (path.startswith(_RESERVED) and not path.startswith(WEBHOOKS)):
        raise ValueError(f"is reserved for the collector: choose another path, or one below {WEBHOOKS}")
    return path


REQUEST_HEADERS: dict[str, str] = {}
"""The request headers that the collector reads, with the purpose of each."""


def _declare(name: str, about: str) -> bytes:
    REQUEST_HEADERS[name] = about
    return name.lower().encode()


AUTHORIZATION = _declare(
    "Authorization",
    "`Basic` and the base64 of `WRITE_KEY:`. Other schemes are ignored; the write key is then read from elsewhere.",
)
WRITE_KEY = _declare("X-Write-Key", "The write key, as Jitsu's clients send it.")
CONTENT_ENCODING = _declare("Content-Encoding", "`gzip`, `deflate` or `identity`, in any case.")
CONTENT_LENGTH = _declare("Content-Length", "A body over the limit is rejected before it is read.")
TRACE = _declare(
    "X-Turnout-Trace",
    "Up to 64 letters, digits and `-`: copied to the record header `turnout-trace`, by which `turnout tail --trace` "
    "finds the events. Other values are ignored.",
)
ANONYMOUS_ID = _declare(
    "AnonymousId", "The anonymousId of events without any id, in base64 or plain, as RudderStack's clients send it."
)
ORIGIN = _declare("Origin", "A page's origin; the source must allow it.")
PREFLIGHT_HEADERS = _declare(
    "Access-Control-Request-Headers", "The headers that a page wants to send; all are allowed."
)
COOKIE = _declare("Cookie", "With `collector.cookie_domain`, cookies with anonymous IDs are renewed for a year.")
PRIVACY = _declare("Sec-GPC", "`1` is Global Privacy Control: recorded in the events' consent; no cookie is set.")
USER_AGENT = _declare("User-Agent", "The `context.userAgent` of a pixel event.")
FORWARDED_FOR = _declare("X-Forwarded-For", "The visitor's address, from `collector.trusted_proxies` only.")
FORWARDED = _declare(
    "Forwarded", "The same, in the form of RFC 7239. If the two headers disagree, the event gets no address."
)
HOST = _declare("Host", "The host that the settings for Segment's browser client name.")
IF_NONE_MATCH = _declare("If-None-Match", "The ETag of the client's script, if the browser has it.")
ACCEPT_ENCODING = _declare("Accept-Encoding", "`gzip` for the client's script.")
FORWARDED_PROTO = _declare("X-Forwarded-Proto", "`http` or `https`: the scheme that the browser used.")
