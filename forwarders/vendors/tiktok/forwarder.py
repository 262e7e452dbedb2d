"""TikTok Events API 2.0."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Any, Final, Literal, Self

from pydantic import ConfigDict, Field, model_validator
from typing_extensions import override

from forwarders.api.auth import HeaderSecret
from forwarders.api.contract import (
    AuthFailed,
    Category,
    Contract,
    Delivered,
    Delivery,
    HttpForwarder,
    Limits,
    Payload,
    Rate,
    Request,
    Response,
    Result,
    Retry,
    Settings,
    Throttled,
    Version,
    split_or_fail,
)
from forwarders.api.fields import Currency, Hashes, without_empty_objects, without_nulls
from forwarders.api.urls import Endpoint

ONLY_FOR: Final[Mapping[str, str]] = {"page": "web", "app": "app", "ad": "app", "lead": "crm"}
"""The event sources whose events have these objects."""

NAMES_OF_APPS: Final[Mapping[str, str]] = {
    "InitiateCheckout": "Checkout",
    "CompleteRegistration": "Registration",
    "Lead": "GenerateLead",
}
"""Standard events of websites, and what TikTok calls them for apps."""

TAKEN = frozenset({0, 20001})
TOO_MANY = 40100
UNAUTHORIZED = frozenset({40102, 40104, 40105})


class TikTokUser(Payload):
    """Fields by which TikTok matches a person."""

    email: Hashes = None
    phone: Hashes = None
    external_id: Hashes = None
    first_name: Hashes = None
    last_name: Hashes = None
    zip_code: Hashes = None
    city: str | None = None
    state: str | None = None
    country: str | None = None
    ttclid: str | None = None
    ttp: str | None = None
    ip: str | None = None
    user_agent: str | None = None
    locale: str | None = None
    idfa: str | None = None
    idfv: str | None = None
    gaid: str | None = None
    att_status: Literal["AUTHORIZED", "DENIED", "NOT_DETERMINED", "RESTRICTED", "NOT_APPLICABLE"] | None = None


class TikTokApp(Payload):
    """The app of an event; only sent if the event source is an app."""

    app_id: str | None = None
    app_name: str | None = None
    app_version: str | None = None


class TikTokAd(Payload):
    """The ad, as an attribution provider reports it; only sent if the event source is an app."""

    callback: str | None = None
    campaign_id: str | None = None
    ad_id: str | None = None
    creative_id: str | None = None
    is_retargeting: bool | None = None
    attributed: bool | None = None
    attribution_type: str | None = None
    attribution_provider: str | None = None


class TikTokLead(Payload):
    """The lead of an event; only sent if the event source is a CRM."""

    lead_id: str
    lead_event_source: str | None = None


class TikTokPage(Payload):
    """A page of a website."""

    url: str
    referrer: str | None = None


class TikTokContent(Payload):
    """A product."""

    content_id: str | None = None
    content_category: str | None = None
    content_name: str | None = None
    brand: str | None = None
    price: float | None = None
    quantity: int | None = None


class TikTokProperties(Payload):
    """Data about the event. TikTok's industry-specific properties are also allowed."""

    model_config = ConfigDict(extra="allow")

    contents: list[TikTokContent] | None = None
    content_type: Literal["product", "product_group"] | None = None
    content_ids: list[str] | None = None
    currency: Currency | None = None
    value: float | None = None
    num_items: int | None = None
    order_id: str | None = None
    shop_id: str | None = None
    query: str | None = None
    search_string: str | None = None
    description: str | None = None
    delivery_category: str | None = None
    predicted_ltv: float | None = None


class TikTokEvent(Payload):
    """An event."""

    event: Annotated[str, Field(min_length=1)]
    event_time: int
    event_id: str | None = None
    user: TikTokUser
    properties: TikTokProperties | None = None
    page: TikTokPage | None = None
    app: TikTokApp | None = None
    ad: TikTokAd | None = None
    lead: TikTokLead | None = None
    limited_data_use: bool | None = None

    @model_validator(mode="after")
    def _check_user(self) -> Self:
        if not self.user.model_dump(exclude_none=True):
            raise ValueError("user needs at least one field to match a person by")
        return self


class TikTokSettings(Settings):
    """Settings of a pixel or another event source."""

    event_source: Literal["web", "app", "offline", "crm"] = "web"
    """The type of the event source."""
    event_source_id: Annotated[str, Field(min_length=1)]
    """The ID of the pixel, app, offline event set or CRM event set."""
    app_id: str | None = None
    """The ID of the app in its store, if the event source is an app and events do not name it."""
    access_token: HeaderSecret
    """An access token of the Events API."""
    test_event_code: str | None = None
    """Send all events to the Test Events tool with this code, one by one."""
    endpoint: Endpoint = "https://business-api.tiktok.com"
    """Send to this address instead, for tests and proxies."""


class TikTok(HttpForwarder[TikTokSettings]):
    """TikTok responds 200 to nearly every request; the `code` in the body has the result of the whole request.

    TikTok recognizes duplicates by `event` and `event_id`, including events from the browser's pixel.
    """

    contract = Contract(
        name="tiktok",
        title="TikTok Events API",
        aliases=(
            "TikTok Conversions",
            "TikTok Conversions API",
            "TikTok Ads",
            "TikTok Pixel",
        ),
        documentation="https://business-api.tiktok.com/portal/docs?id=1771100865818625",
        category=Category.ADVERTISING,
        settings=TikTokSettings,
        payload=TikTokEvent,
        limits=Limits(items=1000, bytes=4_000_000, item_bytes=100_000),
        dedupe_field="event_id",
        dedupe_window=timedelta(hours=48),
        rates=(Rate(1000), Rate(600_000, seconds=60), Rate(86_400_000, seconds=86_400)),
        versions=(Version("v1.3"),),
        validation_setting="test_event_code",
    )

    @property
    @override
    def limits(self) -> Limits:
        """Return the limits; test events are sent one by one."""
        return Limits(1, 100_000, 100_000) if self.settings.test_event_code else self.contract.limits

    @override
    def build_request(self, items: Sequence[Delivery]) -> Request:
        settings = self.settings
        body: dict[str, Any] = {
            "event_source": settings.event_source,
            "event_source_id": settings.event_source_id,
            "data": [self._event(item) for item in items],
        }
        if settings.test_event_code:
            body["test_event_code"] = settings.test_event_code
        headers = {"Access-Token": settings.access_token.get_secret_value()}
        return Request("POST", f"{settings.endpoint}/open_api/v1.3/event/track/", headers, body)

    def _event(self, item: Delivery) -> dict[str, Any]:
        """Return the event with the objects and the name that belong to the event source."""
        source = self.settings.event_source
        event = {"event_id": item.id, **without_empty_objects(item.payload)}
        event = {key: value for key, value in event.items() if ONLY_FOR.get(key, source) == source}
        if source == "app":
            event["event"] = NAMES_OF_APPS.get(event["event"], event["event"])
            event["app"] = without_nulls({"app_id": self.settings.app_id, **event.get("app", {})})
        return event

    @override
    def parse_response(self, response: Response, items: Sequence[Delivery]) -> Sequence[Result]:
        code = response.json.get("code") if isinstance(response.json, dict) else None
        if response.status != 200 or not isinstance(code, int):
            return super().parse_response(response, items)
        result: Result
        if code in TAKEN:
            result = Delivered()
        elif code == TOO_MANY:
            result = Throttled(response.retry_after)
        elif code in UNAUTHORIZED:
            result = AuthFailed()
        elif code >= 50000:
            result = Retry(response.retry_after)
        else:
            return split_or_fail(items, f"code_{code}")
        return [result] * len(items)
