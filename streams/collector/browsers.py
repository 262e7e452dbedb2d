"""Respond to CORS requests, and serve the settings that browser clients load."""

from collections.abc import Callable, Mapping
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from streams.collector import api
from streams.collector.auth import Authenticator, check_origin, find_write_key, forbidden_origin
from streams.collector.errors import RequestError
from streams.sources.source import Source

Headers = tuple[tuple[bytes, bytes], ...]

PREFLIGHT_SECONDS = 7200
"""How many seconds a browser may cache the response to a preflight; Chrome's maximum."""


def allow(origin: bytes) -> Headers:
    """Return the headers that let a page of this origin read a response.

    They name the origin and allow credentials instead of `*`, since sendBeacon always sends credentials.
    """
    return (
        (b"access-control-allow-origin", origin),
        (b"access-control-allow-credentials", b"true"),
        (b"access-control-expose-headers", b"Retry-After"),
        (b"vary", b"Origin"),
    )


def allow_request(origin: bytes, headers: Mapping[bytes, bytes]) -> Headers:
    """Return the headers for a preflight response. They allow all requested headers, since SDKs add new ones."""
    asked = headers.get(api.PREFLIGHT_HEADERS)
    return (
        *allow(origin),
        (b"access-control-allow-methods", b"POST, GET"),
        (b"access-control-max-age", b"%d" % PREFLIGHT_SECONDS),
        *(((b"access-control-allow-headers", asked),) if asked else ()),
    )


def client_settings(write_key: str, host: str, scheme: str, *, cookies: bool) -> dict[str, Any]:
    """Return the settings that analytics.js loads: send all events to this host, and no metrics.

    Without `apiHost` and `protocol` the client would send to Segment. With `cookies` it also sends the site's cookies
    to a host on another domain.
    """
    everything = {"__default": {"enabled": True, "integrations": {}}}
    return {
        "integrations": {
            "Segment.io": {
                "apiKey": write_key,
                "apiHost": f"{host}/v1",
                "protocol": scheme,
                "unbundledIntegrations": [],
                "addBundledMetadata": True,
                "maybeBundledConfigIds": {},
                "versionSettings": {"version": "4.4.7", "componentTypes": ["browser"]},
                "deliveryStrategy": {"config": {"credentials": "include"}} if cookies else {},
            }
        },
        "plan": {"track": everything, "identify": everything, "group": everything},
        "edgeFunction": {},
        "analyticsNextEnabled": True,
        "middlewareSettings": {},
        "enabledMiddleware": {},
        "metrics": {"sampleRate": 0},
        "legacyVideoPluginsEnabled": False,
        "remotePlugins": [],
    }


def source_config(source: str, write_key: str) -> dict[str, Any]:
    """Return the settings that RudderStack's clients load from `configUrl` or the control plane, with no destinations.

    Their mobile clients need `updatedAt`.
    """
    off = {"enabled": False}
    return {
        "source": {
            "id": source,
            "name": source,
            "writeKey": write_key,
            "enabled": True,
            "updatedAt": "2026-01-01T00:00:00.000Z",
            "workspaceId": "turnout",
            "config": {"statsCollection": {"errors": off, "metrics": off}},
            "connections": [],
            "destinations": [],
            "dataplanes": {},
        }
    }


def scheme(own: str, headers: Mapping[bytes, bytes]) -> str:
    """Return the scheme that the browser used, from X-Forwarded-Proto if a proxy terminates TLS."""
    forwarded = headers.get(api.FORWARDED_PROTO, b"").decode("latin-1")
    return forwarded if forwarded in ("http", "https") else own


def answer_preflight(senders: Authenticator, origin: bytes, headers: Mapping[bytes, bytes]) -> Response:
    """Respond to a preflight request, which has no write key yet."""
    if not senders.allows(origin):
        return Response(forbidden_origin().body, 403, media_type="application/json")
    answer = Response(status_code=204)
    answer.raw_headers += allow_request(origin, headers)
    return answer


def routes(senders: Authenticator, *, cookies: bool) -> list[Route]:
    """Return the routes for the settings that clients load before they send; `cookies` as for `client_settings`."""

    async def answer_settings(request: Request) -> Response:
        write_key = request.path_params["write_key"]
        headers = dict(request.scope["headers"])
        host = headers.get(api.HOST, b"").decode("latin-1")
        settings = client_settings(write_key, host, scheme(request.scope["scheme"], headers), cookies=cookies)
        return _answer(senders, request, write_key, lambda _: settings)

    async def answer_source_config(request: Request) -> Response:
        query = request.query_params
        try:
            write_key = find_write_key(dict(request.scope["headers"]))
        except RequestError:
            write_key = None
        write_key = write_key or query.get("writeKey") or query.get("w", "")
        return _answer(senders, request, write_key, lambda source: source_config(source.name, write_key))

    answers = {
        api.SETTINGS: answer_settings,
        api.SETTINGS_WITHOUT_VERSION: answer_settings,
        api.SOURCE_CONFIG: answer_source_config,
    }
    return [Route(path, answer, methods=list(api.methods(path))) for path, answer in answers.items()]


def _answer(
    senders: Authenticator, request: Request, write_key: str, content: Callable[[Source], Mapping[str, Any]]
) -> Response:
    """Return the settings for the source of a write key, or 404 for an unknown write key."""
    headers = dict(request.scope["headers"])
    if request.method == "OPTIONS":
        return answer_preflight(senders, headers.get(api.ORIGIN, b""), headers)
    try:
        source = senders.find_source(write_key)
        check_origin(source, headers)
    except RequestError as error:
        return Response(error.body, 404 if error.status == 401 else error.status, media_type="application/json")
    answer = Response(orjson.dumps(content(source)), 200, {"cache-control": "private, max-age=120"}, "application/json")
    origin = headers.get(api.ORIGIN)
    answer.raw_headers += allow(origin) if origin else ()
    return answer
