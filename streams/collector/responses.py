"""Make the responses to requests that take events, with the headers that browsers need."""

from collections.abc import Mapping
from typing import NamedTuple

from streams.collector import api, browsers
from streams.collector.auth import Authenticator
from streams.collector.browsers import Headers
from streams.collector.errors import RequestError
from streams.collector.first_party import renew_ids
from streams.observability import metrics

SUCCESS = b'{"success":true}'


class CollectorResponse(NamedTuple):
    """A response's status, headers and body."""

    status: int
    headers: Headers
    body: bytes


class Responder:
    """Makes responses; with `cookie_domain`, they renew the anonymous IDs of browsers."""

    def __init__(self, senders: Authenticator, cookie_domain: str | None) -> None:
        self._senders = senders
        self._cookie_domain = cookie_domain

    def respond(
        self,
        result: bytes | RequestError,
        asked: Mapping[bytes, bytes],
        scheme: str,
        image: tuple[bytes, Headers] | None = None,
    ) -> CollectorResponse:
        """Make the response for a request's result.

        Args:
            result: The JSON for the client, or why the request is rejected.
            asked: The request's headers.
            scheme: The scheme of the connection.
            image: The image to return instead of JSON, and its headers.

        """
        headers: Headers = ()
        if isinstance(result, RequestError):
            status, body, headers = result.status, result.body, result.headers
            metrics.COLLECTOR_ERRORS.labels(status).inc()
        else:
            status, body = 200, result
        origin = asked.get(api.ORIGIN)
        if origin is not None and self._senders.allows(origin):
            headers += browsers.allow(origin)
            if status == 200 and self._cookie_domain:
                secure = browsers.scheme(scheme, asked) == "https"
                headers += renew_ids(asked, self._cookie_domain, secure=secure)
        content_type = b"application/json"
        if image is not None:
            content_type, (body, more) = b"image/gif", image
            headers += more
        return CollectorResponse(
            status, ((b"content-type", content_type), (b"content-length", b"%d" % len(body)), *headers), body
        )
