"""Meta (Facebook, Instagram) Conversions API."""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator
from typing_extensions import override

from forwarders.api.auth import Secret
from forwarders.api.contract import (
    AuthFailed,
    Category,
    Contract,
    Delivery,
    HttpForwarder,
    Limits,
    Payload,
    Request,
    Response,
    Result,
    Retired,
    Retry,
    Settings,
    Throttled,
    Version,
    split_or_fail,
)
from forwarders.api.fields import Currency, HashedPerson, without_nulls
from forwarders.api.urls import Endpoint

TRANSIENT = frozenset({1, 2})
THROTTLED = frozenset({4, 17, 32, 341, 613, *range(80000, 80015)})
RETIRED = 2635
UNAUTHORIZED = frozenset({3, 10, 102, 104, 190, *range(200, 300)})


class MetaUserData(HashedPerson):
    """Fields by which Meta matches a person. Fields that Meta's reference requires hashed must be hashed."""

    client_ip_address: str | None = None
    client_user_agent: str | None = None
    fbc: Annotated[str, Field(pattern=r"^fb\.[0-9]+\.[0-9]+\..+$")] | None = None
    fbp: Annotated[str, Field(pattern=r"^fb\.[0-9]+\.[0-9]+\..+$")] | None = None
    subscription_id: str | None = None
    fb_login_id: str | int | None = None
    lead_id: str | int | None = None
    anon_id: str | None = None
    madid: str | None = None
    page_id: str | None = None
    page_scoped_user_id: str | None = None
    ctwa_clid: str | None = None


class MetaContent(Payload):
    """A product."""

    id: str
    quantity: int | None = None
    item_price: float | None = None
    title: str | None = None
    description: str | None = None
    brand: str | None = None
    category: str | None = None
    delivery_category: Literal["in_store", "curbside", "home_delivery"] | None = None


class MetaCustomData(Payload):
    """Data about the event. Other properties are allowed."""

    model_config = ConfigDict(extra="allow")

    value: float | None = None
    currency: Currency | None = None
    content_name: str | None = None
    content_category: str | None = None
    content_ids: list[str] | None = None
    contents: list[MetaContent] | None = None
    content_type: Literal["product", "product_group"] | None = None
    order_id: str | None = None
    predicted_ltv: float | None = None
    num_items: int | None = None
    search_string: str | None = None
    status: str | bool | None = None
    delivery_category: Literal["in_store", "curbside", "home_delivery"] | None = None


class MetaEvent(Payload):
    """A server event."""

    event_name: Annotated[str, Field(min_length=1)]
    event_time: int
    event_id: str | None = None
    event_source_url: str | None = None
    referrer_url: str | None = None
    action_source: Literal[
        "email",
        "website",
        "app",
        "phone_call",
        "chat",
        "physical_store",
        "system_generated",
        "business_messaging",
        "other",
    ]
    user_data: MetaUserData
    custom_data: MetaCustomData | None = None
    app_data: dict[str, Any] | None = None
    opt_out: bool | None = None
    data_processing_options: list[Literal["LDU"]] | None = None
    data_processing_options_country: Literal[0, 1] | None = None
    data_processing_options_state: int | None = None

    @model_validator(mode="after")
    def _check_event(self) -> Self:
        if not self.user_data.model_dump(exclude_none=True):
            raise ValueError("user_data needs at least one field to match a person by")
        website = self.action_source == "website"
        if website and not (self.event_source_url and self.user_data.client_user_agent):
            raise ValueError("action_source website needs event_source_url and user_data.client_user_agent")
        if self.action_source == "app" and self.app_data is None:
            raise ValueError("action_source app needs app_data")
        custom = self.custom_data
        if self.event_name == "Purchase" and (custom is None or custom.value is None or custom.currency is None):
            raise ValueError("a Purchase needs custom_data.value and custom_data.currency")
        return self


class MetaSettings(Settings):
    """Settings of a pixel (dataset)."""

    pixel_id: Annotated[str, Field(pattern="^[0-9]+$")]
    """The ID of the pixel (dataset)."""
    access_token: Secret
    """An access token of the pixel or of a system user."""
    api_version: Annotated[str, Field(pattern=r"^v[0-9]+\.0$")] = "v26.0"
    """The version of the Graph API."""
    test_event_code: str | None = None
    """Send all events to the Test Events tool with this code."""
    endpoint: Endpoint = "https://graph.facebook.com"
    """Send to this address instead, for tests and proxies."""


class Meta(HttpForwarder[MetaSettings]):
    """Meta rejects a whole request if one event is invalid or older than 7 days.

    Meta recognizes duplicates by `event_id` and `event_name`, including events from the browser's pixel with the same
    `event_id`.
    """

    contract = Contract(
        name="meta",
        title="Meta Conversions API",
        aliases=(
            "Facebook",
            "Facebook Conversions API",
            "Facebook Conversions",
            "Facebook CAPI",
            "Meta CAPI",
            "Facebook Pixel",
            "Meta Pixel",
        ),
        documentation="https://developers.facebook.com/docs/marketing-api/conversions-api",
        category=Category.ADVERTISING,
        settings=MetaSettings,
        payload=MetaEvent,
        limits=Limits(items=1000, bytes=4_000_000, item_bytes=100_000),
        max_event_age=timedelta(days=7),
        dedupe_field="event_id",
        dedupe_window=timedelta(hours=48),
        versions=(Version("v26.0"), Version("v25.0", date(2027, 2, 23)), Version("v24.0", date(2026, 11, 10))),
        validation_setting="test_event_code",
    )

    @override
    def build_request(self, items: Sequence[Delivery]) -> Request:
        settings = self.settings
        body: dict[str, Any] = {
            "data": [{"event_id": item.id, **without_nulls(item.payload)} for item in items],
            "access_token": settings.access_token.get_secret_value(),
        }
        if settings.test_event_code:
            body["test_event_code"] = settings.test_event_code
        return Request("POST", f"{settings.endpoint}/{settings.api_version}/{settings.pixel_id}/events", body=body)

    @override
    def parse_response(self, response: Response, items: Sequence[Delivery]) -> Sequence[Result]:
        """Map the error's code to a result, since the status is 400 for most errors (Graph API, Handle Errors)."""
        error = response.json.get("error") if isinstance(response.json, dict) else None
        if response.status < 400 or not isinstance(error, dict) or not isinstance(error.get("code"), int):
            return super().parse_response(response, items)
        code = error["code"]
        result: Result
        if code in THROTTLED or response.status == 429:
            result = Throttled(response.retry_after)
        elif code == RETIRED:
            result = Retired()
        elif code in UNAUTHORIZED:
            result = AuthFailed()
        elif code in TRANSIENT or error.get("is_transient") is True or response.status >= 500:
            result = Retry(response.retry_after)
        else:
            subcode = error.get("error_subcode")
            return split_or_fail(items, f"code_{code}", f"subcode {subcode}" if isinstance(subcode, int) else "")
        return [result] * len(items)
