"""Snapchat Conversions API v3."""

from collections.abc import Hashable, Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlencode

from pydantic import ConfigDict, Field, model_validator
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
    Version,
)
from forwarders.api.fields import Currency, HashedPerson, without_nulls
from forwarders.api.urls import Endpoint


class SnapchatUserData(HashedPerson):
    """Fields by which Snapchat matches a person."""

    madid: str | None = None
    idfv: str | None = None
    lead_id: str | int | None = None
    subscription_id: str | None = None
    client_ip_address: str | None = None
    client_user_agent: str | None = None
    sc_click_id: str | None = None
    sc_cookie1: str | None = None


class SnapchatContent(Payload):
    """A product."""

    id: str
    quantity: int | None = None
    item_price: float | None = None
    brand: str | None = None


class SnapchatCustomData(Payload):
    """Data about the event."""

    model_config = ConfigDict(extra="allow")

    value: float | None = None
    currency: Currency | None = None
    content_ids: list[str] | None = None
    content_category: list[str] | str | None = None
    contents: list[SnapchatContent] | None = None
    num_items: int | None = None
    order_id: str | None = None
    search_string: str | None = None
    sign_up_method: str | None = None


class SnapchatEvent(Payload):
    """An event from a website (WEB), an app or elsewhere."""

    event_name: Annotated[str, Field(pattern="^[A-Z][A-Z0-9_]*$")]
    event_time: int
    event_id: str | None = None
    event_source_url: str | None = None
    action_source: Literal["WEB", "MOBILE_APP", "OFFLINE"]
    user_data: SnapchatUserData
    custom_data: SnapchatCustomData | None = None
    app_data: dict[str, Any] | None = None
    data_processing_options: list[Literal["LDU"]] | None = None
    data_processing_options_country: Literal[0, 1] | None = None
    data_processing_options_state: int | None = None

    @model_validator(mode="after")
    def _check_user(self) -> Self:
        user = self.user_data
        if not (user.em or user.ph or user.madid or (user.client_ip_address and user.client_user_agent)):
            raise ValueError("user_data needs em, ph, madid, or client_ip_address with client_user_agent")
        if self.action_source == "MOBILE_APP" and self.app_data is None:
            raise ValueError("action_source MOBILE_APP needs app_data")
        return self


class SnapchatSettings(Settings):
    """Settings of a pixel for websites, a Snap app for apps, or both."""

    pixel_id: Annotated[str, Field(pattern="^[A-Za-z0-9-]+$")] | None = None
    """The pixel, for events of websites."""
    snap_app_id: Annotated[str, Field(pattern="^[A-Za-z0-9-]+$")] | None = None
    """The Snap app, for events of apps."""
    access_token: Secret
    """A Conversions API token."""
    validate_only: bool = False
    """Let Snapchat validate events without recording them."""
    endpoint: Endpoint = "https://tr.snapchat.com"
    """Send to this address instead, for tests and proxies."""

    @model_validator(mode="after")
    def _check_id(self) -> Self:
        if not (self.pixel_id or self.snap_app_id):
            raise ValueError("set pixel_id, snap_app_id or both")
        return self


class Snapchat(HttpForwarder[SnapchatSettings]):
    """Sends events of websites to the pixel and those of apps to the Snap app.

    Snapchat recognizes duplicates by `event_id`.
    """

    contract = Contract(
        name="snapchat",
        title="Snapchat Conversions API",
        aliases=(
            "Snap Conversions API",
            "Snapchat Conversion",
            "Snapchat Conversions",
            "Snap Pixel",
        ),
        documentation="https://developers.snap.com/api/marketing-api/Conversions-API/UsingTheAPI",
        category=Category.ADVERTISING,
        settings=SnapchatSettings,
        payload=SnapchatEvent,
        limits=Limits(items=2000, bytes=4_000_000, item_bytes=100_000),
        max_event_age=timedelta(days=37),
        dedupe_field="event_id",
        dedupe_window=timedelta(hours=48),
        versions=(Version("v3"),),
        validation_setting="validate_only",
    )

    @override
    def group_key(self, payload: Mapping[str, Any]) -> Hashable:
        return payload.get("action_source") == "MOBILE_APP"

    @override
    def build_request(self, items: Sequence[Delivery]) -> Request:
        settings = self.settings
        ids = [settings.pixel_id, settings.snap_app_id]
        if self.group_key(items[0].payload):
            ids.reverse()
        target = f"{ids[0] or ids[1]}/events{'/validate' if settings.validate_only else ''}"
        query = urlencode({"access_token": settings.access_token.get_secret_value()})
        data = [{"event_id": item.id, **without_nulls(item.payload)} for item in items]
        return Request("POST", f"{settings.endpoint}/v3/{target}?{query}", body={"data": data})
