"""Read events from pixel requests, for emails and pages without scripts."""

from base64 import b64decode
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from streams import events
from streams.collector import api
from streams.collector.errors import RequestError

GIF = bytes.fromhex("47494638396101000100800000000000ffffff21f90401000000002c000000000100010000020144003b")
"""A GIF of one transparent pixel."""

HEADERS = ((b"cache-control", b"no-store"),)

_NESTED = ("context", "integrations", "properties", "traits")
_PARAMETERS = 256


def read_event(query: bytes, headers: Mapping[bytes, bytes]) -> dict[str, Any]:
    """Return the event in a query string or form; raises RequestError.

    The event is either in `data`, as JSON in base64 like Segment's pixel, or in one parameter per field, with dots for
    nested fields: `userId=u-1&event=Opened&properties.mail=7`. With `data`, all other parameters except `writeKey` are
    ignored. The user agent is that of the request.
    """
    try:
        parameters = dict(parse_qsl(query.decode(), max_num_fields=_PARAMETERS, errors="strict"))
    except ValueError:
        raise RequestError("bad_query", "the query string is not UTF-8, or has too many parameters") from None
    data = parameters.pop("data", None)
    event = _nested(parameters) if data is None else _decoded(data)
    if "writeKey" in parameters:
        event.setdefault("writeKey", parameters["writeKey"])
    agent = headers.get(api.USER_AGENT)
    context = event.setdefault("context", {})
    if agent and isinstance(context, dict):
        context.setdefault("userAgent", agent.decode("latin-1"))
    return event


def _decoded(data: str) -> dict[str, Any]:
    plain = data.replace("-", "+").replace("_", "/").replace(" ", "+").rstrip("=")
    try:
        event = events.read(b64decode(plain + "=" * (-len(plain) % 4), validate=True))
    except ValueError:
        event = None
    if not isinstance(event, dict):
        raise RequestError("bad_data", "data: must be a JSON object in base64")
    return event


def _nested(parameters: Mapping[str, str]) -> dict[str, Any]:
    event: dict[str, Any] = {}
    for name, value in parameters.items():
        *path, last = name.split(".") if name.startswith(_NESTED) else [name]
        place = event
        for step in path:
            place = place.setdefault(step, {})
            if not isinstance(place, dict):
                break
        if not isinstance(place, dict) or isinstance(place.get(last), dict):
            raise RequestError("bad_query", "contradictory parameters: a field has both a value and nested fields")
        place[last] = value
    return event
