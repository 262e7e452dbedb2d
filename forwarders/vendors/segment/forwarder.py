"""Twilio Segment HTTP Tracking API, and what compatible servers share with it."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, model_validator
from typing_extensions import override

from forwarders.api.auth import Secret, basic
from forwarders.api.contract import (
    Category,
    Contract,
    Delivery,
    HttpForwarder,
    Limits,
    Payload,
    Rate,
    Request,
    Settings,
)
from forwarders.api.keys import uuid_key
from forwarders.api.urls import Endpoint

HOSTS = {"us": "https://api.segment.io", "eu": "https://events.eu1.segmentapis.com"}
REQUIRED = {"track": "event", "group": "groupId", "alias": "previousId"}


class SegmentCall(Payload):
    """A call of the event spec, with the spec's field names."""

    type: Literal["track", "page", "screen", "identify", "group", "alias"]
    messageId: Annotated[str, Field(min_length=1, max_length=100)] | None = None  # noqa: N815
    timestamp: str | None = None
    userId: str | None = None  # noqa: N815
    anonymousId: str | None = None  # noqa: N815
    groupId: str | None = None  # noqa: N815
    previousId: str | None = None  # noqa: N815
    event: str | None = None
    name: str | None = None
    category: str | None = None
    properties: dict[str, Any] | None = None
    traits: dict[str, Any] | None = None
    context: dict[str, Any] | None = None
    integrations: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _check_call(self) -> Self:
        if not (self.userId or self.anonymousId):
            raise ValueError("a call needs a userId or an anonymousId")
        if (field := REQUIRED.get(self.type)) and not getattr(self, field):
            raise ValueError(f"a call of type {self.type} needs {field}")
        return self


def batch(url: str, write_key: SecretStr, items: Sequence[Delivery]) -> Request:
    """Return the calls of several deliveries as a batch."""
    calls = [
        {
            "messageId": item.id if len(item.id) <= 100 else uuid_key(item.id),
            **{name: value for name, value in item.payload.items() if value is not None},
        }
        for item in items
    ]
    return Request(
        "POST", f"{url}/v1/batch", {"Authorization": basic(write_key.get_secret_value(), "")}, {"batch": calls}
    )


class SegmentSettings(Settings):
    """Settings of a source."""

    write_key: Secret
    """The write key of the source."""
    region: Literal["us", "eu"] = "us"
    """The workspace's region."""
    endpoint: Endpoint | None = None
    """Send to this address instead, for tests and proxies."""


class Segment(HttpForwarder[SegmentSettings]):
    """Sends calls unchanged.

    Segment responds 200 before it validates them, and 400 if they are too large or invalid JSON.
    """

    contract = Contract(
        name="segment",
        title="Twilio Segment",
        aliases=("Segment.io",),
        documentation="https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/",
        category=Category.CRM,
        settings=SegmentSettings,
        payload=SegmentCall,
        limits=Limits(items=2500, bytes=450_000, item_bytes=32_000),  # 500 KB, minus fields added per call
        dedupe_field="messageId",
        dedupe_window=timedelta(hours=24),
        rates=(Rate(1000),),
    )

    @override
    def build_request(self, items: Sequence[Delivery]) -> Request:
        return batch(self.settings.endpoint or HOSTS[self.settings.region], self.settings.write_key, items)
