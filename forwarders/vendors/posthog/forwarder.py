"""PostHog batch API."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field
from typing_extensions import override

from forwarders.api.auth import Secret
from forwarders.api.contract import (
    Category,
    Contract,
    Delivery,
    HttpForwarder,
    Limits,
    Payload,
    Request,
    Settings,
)
from forwarders.api.keys import uuid_key
from forwarders.api.urls import Endpoint

HOSTS = {"us": "https://us.i.posthog.com", "eu": "https://eu.i.posthog.com"}


class PostHogEvent(Payload):
    """An event. PostHog defines `$identify`, `$groupidentify`, `$pageview` and `$screen`."""

    event: Annotated[str, Field(min_length=1, max_length=200)]
    distinct_id: Annotated[str, Field(min_length=1, max_length=200)]
    timestamp: str | None = None
    properties: dict[str, Any] | None = None
    uuid: UUID | None = None


class PostHogSettings(Settings):
    """Settings of a project."""

    api_key: Secret
    """The project's API key."""
    region: Literal["us", "eu"] = "us"
    """The project's cloud region."""
    endpoint: Endpoint | None = None
    """The address of a self-hosted PostHog."""
    historical_migration: bool = False
    """Mark the events as historical, so that they do not trigger alerts."""


class PostHog(HttpForwarder[PostHogSettings]):
    """PostHog accepts a batch before it validates the events, and does not report invalid ones.

    A repeated event has the same `uuid`, derived from the delivery's ID. PostHog removes duplicates, but does not
    guarantee it.
    """

    contract = Contract(
        name="posthog",
        title="PostHog",
        documentation="https://posthog.com/docs/api/capture",
        category=Category.ANALYTICS,
        settings=PostHogSettings,
        payload=PostHogEvent,
        limits=Limits(items=100, bytes=10_000_000, item_bytes=900_000),
        dedupe_field="uuid",
        dedupe_caveat="PostHog does not guarantee it",
    )

    @override
    def build_request(self, items: Sequence[Delivery]) -> Request:
        settings = self.settings
        body: dict[str, Any] = {
            "api_key": settings.api_key.get_secret_value(),
            "batch": [{"uuid": uuid_key(item.id), **item.payload} for item in items],
        }
        if settings.historical_migration:
            body["historical_migration"] = True
        return Request("POST", f"{settings.endpoint or HOSTS[settings.region]}/batch/", body=body)
