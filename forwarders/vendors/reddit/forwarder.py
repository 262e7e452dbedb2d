"""Reddit Conversions API v3."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from typing_extensions import override

from forwarders.api.auth import HeaderSecret
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
    Version,
)
from forwarders.api.fields import Currency, Sha256, without_nulls
from forwarders.api.tolerance import needless
from forwarders.api.urls import Endpoint

WITHOUT_VALUE = frozenset({"PAGE_VISIT", "VIEW_CONTENT", "SEARCH"})
WITH_COUNT = frozenset({"ADD_TO_CART", "ADD_TO_WISHLIST", "PURCHASE", "CUSTOM"})
MATCH_KEYS = ("idfa", "aaid", "email", "external_id", "ip_address", "user_agent", "uuid", "phone_number")


class EventType(Payload):
    """A standard event, or CUSTOM with a custom name."""

    tracking_type: Literal[
        "PAGE_VISIT",
        "VIEW_CONTENT",
        "SEARCH",
        "ADD_TO_CART",
        "ADD_TO_WISHLIST",
        "PURCHASE",
        "LEAD",
        "SIGN_UP",
        "CUSTOM",
    ]
    custom_event_name: Annotated[str, Field(max_length=64)] | None = None

    @model_validator(mode="after")
    def _check_name(self) -> Self:
        if self.tracking_type == "CUSTOM" and self.custom_event_name is None:
            raise ValueError("a CUSTOM event needs a custom_event_name")
        if self.tracking_type != "CUSTOM" and self.custom_event_name is not None:
            raise needless("a custom_event_name goes with CUSTOM only", "custom_event_name")
        return self


class ScreenDimensions(Payload):
    """The size of the screen in pixels."""

    width: int
    height: int


class RedditUser(Payload):
    """Fields by which Reddit matches a person."""

    email: Sha256 | None = None
    phone_number: Sha256 | None = None
    external_id: Sha256 | None = None
    uuid: str | None = None
    ip_address: str | None = None
    user_agent: str | None = None
    idfa: Sha256 | None = None
    aaid: Sha256 | None = None
    data_processing_options: dict[str, Any] | None = None
    screen_dimensions: ScreenDimensions | None = None


class RedditProduct(Payload):
    """A product."""

    id: str
    name: str | None = None
    category: str | None = None
    quantity: int | None = None
    item_price: float | None = None


class Metadata(Payload):
    """Data about the event."""

    conversion_id: str | None = None
    value: float | None = None
    currency: Currency | None = None
    item_count: int | None = None
    products: list[RedditProduct] | None = None


class RedditEvent(Payload):
    """A conversion event. Its type determines which metadata is allowed."""

    event_at: int
    action_source: Literal["WEBSITE", "APP", "OTHER", "PHYSICAL_STORE"]
    event_source_url: str | None = None
    click_id: str | None = None
    type: EventType
    metadata: Metadata | None = None
    user: RedditUser | None = None

    @model_validator(mode="after")
    def _check_event(self) -> Self:
        kind, metadata, user = self.type.tracking_type, self.metadata or Metadata(), self.user or RedditUser()
        if not self.click_id and all(getattr(user, key) is None for key in MATCH_KEYS):
            raise ValueError("needs a click_id or a field of user to match a person by")
        if self.event_source_url and self.action_source != "WEBSITE":
            raise needless("an event_source_url goes with action_source WEBSITE only", "event_source_url")
        if kind in WITHOUT_VALUE and (metadata.value is not None or metadata.currency is not None):
            raise needless(f"metadata of {kind} has no value", "metadata.value", "metadata.currency")
        if kind not in WITH_COUNT and metadata.item_count is not None:
            raise needless(f"metadata of {kind} has no item_count", "metadata.item_count")
        return self


class RedditSettings(Settings):
    """Settings of a pixel."""

    pixel_id: Annotated[str, Field(pattern="^[A-Za-z0-9_]+$")]
    """The ID of the pixel."""
    access_token: HeaderSecret
    """A conversion access token."""
    test_id: str | None = None
    """Send all events to the Event Testing tool with this ID."""
    endpoint: Endpoint = "https://ads-api.reddit.com"
    """Send to this address instead, for tests and proxies."""


class Reddit(HttpForwarder[RedditSettings]):
    """Reddit recognizes duplicates by `metadata.conversion_id`, including events from the browser's pixel."""

    contract = Contract(
        name="reddit",
        title="Reddit Conversions API",
        aliases=(
            "Reddit Ads",
            "Reddit Pixel",
        ),
        documentation="https://ads-api.reddit.com/docs/v3/",
        category=Category.ADVERTISING,
        settings=RedditSettings,
        payload=RedditEvent,
        limits=Limits(items=1000, bytes=4_000_000, item_bytes=100_000),
        max_event_age=timedelta(days=7),
        dedupe_field="metadata.conversion_id",
        dedupe_window=timedelta(days=2),
        rates=(Rate(1000), Rate(10_000, of="items")),
        versions=(Version("v3"),),
        validation_setting="test_id",
    )

    @property
    @override
    def limits(self) -> Limits:
        """Return the limits; the Event Testing tool shows one event per request."""
        return Limits(1, 100_000, 100_000) if self.settings.test_id else self.contract.limits

    @override
    def build_request(self, items: Sequence[Delivery]) -> Request:
        settings = self.settings
        data: dict[str, Any] = {"events": [_event(item) for item in items]}
        if settings.test_id:
            data["test_id"] = settings.test_id
        headers = {"Authorization": f"Bearer {settings.access_token.get_secret_value()}"}
        url = f"{settings.endpoint}/api/v3/pixels/{settings.pixel_id}/conversion_events"
        return Request("POST", url, headers, {"data": data})


def _event(item: Delivery) -> dict[str, Any]:
    event: dict[str, Any] = without_nulls(item.payload)
    return {**event, "metadata": {"conversion_id": item.id, **event.get("metadata", {})}}
