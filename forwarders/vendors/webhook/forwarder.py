"""Any HTTP endpoint that accepts JSON."""

from collections.abc import Sequence
from string import punctuation
from typing import Annotated, Literal
from urllib.parse import quote

import orjson
from pydantic import Field
from typing_extensions import override

from forwarders.api.auth import AnyCredentials, HeaderName, HeaderValue
from forwarders.api.contract import (
    Category,
    Contract,
    Delivery,
    HttpForwarder,
    Limits,
    Request,
    Settings,
)
from forwarders.api.urls import Url


class WebhookSettings(Settings):
    """Settings of an endpoint."""

    url: Url
    """The endpoint's URL."""
    method: Literal["POST", "PUT", "PATCH"] = "POST"
    """The HTTP method."""
    headers: dict[HeaderName, HeaderValue] = Field(default_factory=dict)
    """Additional headers. Use `auth` for secrets."""
    auth: AnyCredentials | None = None
    """The authentication method: bearer, basic, header or hmac."""
    batch_size: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Maximum number of payloads per request. If it is above 1, the body is always an array."""
    batch_bytes: Annotated[int, Field(ge=1_000, le=100_000_000)] = 1_000_000
    """Maximum size of a request's payloads in bytes."""


class Webhook(HttpForwarder[WebhookSettings]):
    """Sends one payload per request as a JSON object or, if `batch_size` is above 1, several as a JSON array.

    A request with one delivery has the delivery's ID as `Idempotency-Key`, percent-encoded if necessary. The endpoint
    must respond 2xx only after it has stored the payload. A delivery may be repeated with the same key.
    """

    contract = Contract(
        name="webhook",
        title="Webhook",
        aliases=("Webhooks",),
        documentation="https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-idempotency-key-header",
        category=Category.STORAGE,
        settings=WebhookSettings,
        dedupe_field="Idempotency-Key",
        dedupe_caveat="the endpoint may ignore the key",
    )

    @property
    @override
    def limits(self) -> Limits:
        """Return the limits from the settings."""
        return Limits(self.settings.batch_size, self.settings.batch_bytes, self.settings.batch_bytes)

    @override
    def build_request(self, items: Sequence[Delivery]) -> Request:
        payloads = [item.payload for item in items]
        body = orjson.dumps(payloads[0] if self.settings.batch_size == 1 else payloads)
        headers = {"Content-Type": "application/json", **self.settings.headers}
        if len(items) == 1:
            headers["Idempotency-Key"] = quote(items[0].id, safe=punctuation.replace("%", ""))
        if self.settings.auth is not None:
            headers |= self.settings.auth.headers(body)
        return Request(self.settings.method, self.settings.url, headers, body)
