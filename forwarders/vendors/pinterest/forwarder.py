"""Pinterest Conversions API."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from typing_extensions import override

from forwarders.api.auth import HeaderSecret
from forwarders.api.contract import (
    BatchFailure,
    Category,
    Contract,
    Delivered,
    Delivery,
    HttpForwarder,
    Limits,
    Payload,
    PermanentFailure,
    Rate,
    Request,
    Response,
    Result,
    Settings,
    Version,
)
from forwarders.api.fields import Currency, Sha256, without_empty_objects
from forwarders.api.urls import Endpoint


class PinterestUserData(Payload):
    """Fields by which Pinterest matches a person."""

    em: list[Sha256] | None = None
    ph: list[Sha256] | None = None
    ge: list[Sha256] | None = None
    db: list[Sha256] | None = None
    ln: list[Sha256] | None = None
    fn: list[Sha256] | None = None
    ct: list[Sha256] | None = None
    st: list[Sha256] | None = None
    zp: list[Sha256] | None = None
    country: list[Sha256] | None = None
    external_id: list[Sha256] | None = None
    hashed_maids: list[Sha256] | None = None
    click_id: str | None = None
    partner_id: str | None = None
    client_ip_address: str | None = None
    client_user_agent: str | None = None


class PinterestContent(Payload):
    """A product, with its price as text."""

    id: str | None = None
    item_name: str | None = None
    item_category: str | None = None
    item_brand: str | None = None
    item_price: str | None = None
    quantity: int | None = None


class PinterestCustomData(Payload):
    """Data about the event, with the value as text."""

    currency: Currency | None = None
    value: str | None = None
    content_ids: list[str] | None = None
    content_name: str | None = None
    content_category: str | None = None
    content_brand: str | None = None
    contents: list[PinterestContent] | None = None
    num_items: int | None = None
    order_id: str | None = None
    search_string: str | None = None
    opt_out_type: str | None = None
    predicted_ltv: str | None = None
    np: str | None = None


class PinterestApp(Payload):
    """The app of an event."""

    app_id: str | None = None
    app_name: str | None = None
    app_package_name: str | None = None
    app_store: str | None = None
    app_version: str | None = None
    install_time: int | None = None
    user_agent: str | None = None
    window_height: int | None = None
    window_width: int | None = None


class PinterestDevice(Payload):
    """The device of an event."""

    brand: str | None = None
    carrier: str | None = None
    form_factor: str | None = None
    languages: list[Annotated[str, Field(pattern="^[a-z]{2}$")]] | None = None
    locale: str | None = None
    model: str | None = None
    network_type: str | None = None
    os_family: str | None = None
    os_name: str | None = None
    os_version: str | None = None
    screen_density: int | None = None
    screen_height: int | None = None
    screen_width: int | None = None
    timezone: str | None = None
    type: str | None = None


class PinterestEvent(Payload):
    """An event with one of Pinterest's names, such as add_to_cart, checkout or page_visit, or `custom`."""

    event_name: Annotated[str, Field(min_length=1)]
    action_source: Literal["app_android", "app_ios", "web", "offline"]
    event_time: int
    event_id: str | None = None
    event_source_url: str | None = None
    opt_out: bool | None = None
    advertiser_tracking_enabled: bool | None = None
    partner_name: str | None = None
    user_data: PinterestUserData
    custom_data: PinterestCustomData | None = None
    app_id: str | None = None
    app_name: str | None = None
    app_version: str | None = None
    device_brand: str | None = None
    device_carrier: str | None = None
    device_model: str | None = None
    device_type: str | None = None
    os_version: str | None = None
    wifi: bool | None = None
    language: Annotated[str, Field(pattern="^[a-z]{2}$")] | None = None
    app_info: PinterestApp | None = None
    device_info: PinterestDevice | None = None

    @model_validator(mode="after")
    def _check_user(self) -> Self:
        user = self.user_data
        if not (user.em or user.hashed_maids or (user.client_ip_address and user.client_user_agent)):
            raise ValueError("user_data needs em, hashed_maids, or client_ip_address with client_user_agent")
        return self


class PinterestSettings(Settings):
    """Settings of an ad account."""

    ad_account_id: Annotated[str, Field(pattern="^[0-9]+$")]
    """The ID of the ad account."""
    access_token: HeaderSecret
    """A conversion access token."""
    test: bool = False
    """Send test events, which Pinterest validates without recording them."""
    endpoint: Endpoint = "https://api.pinterest.com"
    """Send to this address instead, for tests and proxies."""


class Pinterest(HttpForwarder[PinterestSettings]):
    """Pinterest's response with status 200 or 422 lists for each event whether it was processed.

    Pinterest recognizes duplicates by `event_id` and `event_name`, including events from the browser's tag.
    """

    contract = Contract(
        name="pinterest",
        title="Pinterest Conversions API",
        aliases=(
            "Pinterest Conversions",
            "Pinterest Tag",
        ),
        documentation="https://developers.pinterest.com/docs/api/v5/events-create/",
        category=Category.ADVERTISING,
        settings=PinterestSettings,
        payload=PinterestEvent,
        limits=Limits(items=1000, bytes=4_000_000, item_bytes=100_000),
        dedupe_field="event_id",
        dedupe_window=timedelta(hours=24),
        batch_failure=BatchFailure.LISTED,
        rates=(Rate(5000, seconds=60, per="account"),),
        versions=(Version("v5"),),
        validation_setting="test",
    )

    @override
    def build_request(self, items: Sequence[Delivery]) -> Request:
        settings = self.settings
        headers = {"Authorization": f"Bearer {settings.access_token.get_secret_value()}"}
        url = (
            f"{settings.endpoint}/v5/ad_accounts/{settings.ad_account_id}/events{'?test=true' if settings.test else ''}"
        )
        data = [{"event_id": item.id, **without_empty_objects(item.payload)} for item in items]
        return Request("POST", url, headers, {"data": data})

    @override
    def parse_response(self, response: Response, items: Sequence[Delivery]) -> Sequence[Result]:
        events: Any = response.json.get("events") if isinstance(response.json, dict) else None
        if response.status in (200, 422) and isinstance(events, list) and len(events) == len(items):
            failed = [isinstance(event, dict) and event.get("status") == "failed" for event in events]
            if response.status == 200 or any(failed):
                return [PermanentFailure("failed") if wrong else Delivered() for wrong in failed]
        return super().parse_response(response, items)
