"""Any HTTP endpoint that takes JSON."""

from collections.abc import Sequence
from string import punctuation
from typing import Annotated, Literal
from urllib.parse import quote

import orjson
from pydantic import Field
from typing_extensions import override

from forwarders.auth import AnyCredentials, HeaderName, HeaderValue
from forwarders.contract import Category, Contract, Delivery, HttpForwarder, Limits, Request, Settings
from forwarders.urls import Url


class WebhookSettings(Settings):
    """Where to send, and how."""

    url: Url
    """Where to send."""
    method: Literal["POST", "PUT", "PATCH"] = "POST"
    """How to send."""
    headers: dict[HeaderName, HeaderValue] = Field(default_factory=dict)
    """Headers to send along; a secret belongs into `auth`."""
    auth: AnyCredentials | None = None
    """How to show who sends: bearer, basic, header or hmac."""
    batch_size: Annotated[int, Field(ge=1, le=10_000)] = 1
    """How many payloads a request may hold; above 1 the body is always an array."""
    batch_bytes: Annotated[int, Field(ge=1_000, le=100_000_000)] = 1_000_000
    """How many bytes of payloads a request may hold."""


class Webhook(HttpForwarder[WebhookSettings]):
    """One payload a request as a JSON object, or, with a `batch_size` above 1, always a JSON array.

    A request with one delivery has its id as `Idempotency-Key`, percent-encoded where a header cannot hold it. The
    endpoint must answer 2xx once it has the payload for good; a delivery may come again under the same key.
    """

    contract = Contract(
        name="webhook",
        title="Webhook",
        aliases=("Webhooks",),
        documentation="https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-idempotency-key-header",
        category=Category.STORAGE,
        settings=WebhookSettings,
        dedupe_field="Idempotency-Key",
        dedupe_caveat="whether the endpoint heeds the key is its own matter",
    )

    @property
    @override
    def limits(self) -> Limits:
        """What the settings say."""
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
