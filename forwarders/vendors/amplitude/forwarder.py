"""Amplitude HTTP V2 API."""

from collections.abc import Hashable, Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlencode

import orjson
from pydantic import Field, model_validator
from typing_extensions import override

from forwarders.api.auth import Secret
from forwarders.api.contract import (
    AuthFailed,
    BatchFailure,
    Category,
    Contract,
    Delivery,
    HttpForwarder,
    Limits,
    Payload,
    PermanentFailure,
    Rate,
    Request,
    Response,
    Result,
    Retry,
    Settings,
    Throttled,
    split_or_fail,
)
from forwarders.api.tolerance import needless
from forwarders.api.urls import Endpoint

MAPPING_HOSTS = {"us": "https://api.amplitude.com", "eu": "https://api.eu.amplitude.com"}
HOSTS = {"us": "https://api2.amplitude.com", "eu": "https://api.eu.amplitude.com"}
PAUSE = 30.0
"""Seconds to wait before the next event of a user or device that Amplitude throttled."""

LISTS = ("events_with_invalid_fields", "events_with_missing_fields", "events_with_invalid_id_lengths")


class AmplitudeEvent(Payload):
    """An event, with the field names from Amplitude's documentation.

    With a `global_user_id` instead of an `event_type`, the user `user_id` is mapped to it.
    """

    user_id: Annotated[str, Field(min_length=1)] | None = None
    device_id: Annotated[str, Field(min_length=1)] | None = None
    event_type: Annotated[str, Field(min_length=1)] | None = None
    global_user_id: Annotated[str, Field(min_length=1)] | None = None
    time: int | None = None
    event_properties: dict[str, Any] | None = None
    user_properties: dict[str, Any] | None = None
    groups: dict[str, Any] | None = None
    group_properties: dict[str, Any] | None = None
    app_version: str | None = None
    platform: str | None = None
    os_name: str | None = None
    os_version: str | None = None
    device_brand: str | None = None
    device_manufacturer: str | None = None
    device_model: str | None = None
    carrier: str | None = None
    country: str | None = None
    region: str | None = None
    city: str | None = None
    dma: str | None = None
    language: str | None = None
    price: float | None = None
    quantity: int | None = None
    revenue: float | None = None
    productId: str | None = None  # noqa: N815
    revenueType: str | None = None  # noqa: N815
    currency: str | None = None
    location_lat: float | None = None
    location_lng: float | None = None
    ip: str | None = None
    idfa: str | None = None
    idfv: str | None = None
    adid: str | None = None
    android_id: str | None = None
    event_id: int | None = None
    session_id: int | None = None
    insert_id: str | None = None
    user_agent: str | None = None
    library: str | None = None
    plan: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _check_who(self) -> Self:
        if self.user_id is None and self.device_id is None:
            raise ValueError("an event needs a user_id or a device_id")
        if self.event_type is None and self.global_user_id is None:
            raise ValueError("needs an event_type, or a global_user_id to map the user to")
        if self.event_type is not None and self.global_user_id is not None:
            raise needless("an event has no global_user_id", "global_user_id")
        if self.global_user_id is not None and self.user_id is None:
            raise ValueError("a user who is mapped needs a user_id")
        return self


class AmplitudeSettings(Settings):
    """Settings of a project."""

    api_key: Secret
    """The API key of the project."""
    region: Literal["us", "eu"] = "us"
    """The project's region."""
    min_id_length: Annotated[int, Field(ge=1)] = 5
    """Minimum length of a user_id or device_id. Amplitude rejects shorter ones."""
    endpoint: Endpoint | None = None
    """Send to this address instead, for tests and proxies."""


class Amplitude(HttpForwarder[AmplitudeSettings]):
    """If Amplitude rejects a batch, it lists the invalid events. These become dead letters, the others are sent again.

    If Amplitude throttles a batch, it lists the users and devices. Their events wait 30 seconds, the others are sent
    again immediately.
    """

    contract = Contract(
        name="amplitude",
        title="Amplitude",
        documentation="https://amplitude.com/docs/apis/analytics/http-v2",
        category=Category.ANALYTICS,
        settings=AmplitudeSettings,
        payload=AmplitudeEvent,
        limits=Limits(items=1000, bytes=850_000, item_bytes=850_000),  # 1 MB, minus fields added per event
        dedupe_field="insert_id",
        dedupe_window=timedelta(days=7),
        batch_failure=BatchFailure.LISTED,
        rates=(Rate(1000, of="items"), Rate(30, of="items", per="user")),
    )

    @override
    def group_key(self, payload: Mapping[str, Any]) -> Hashable:
        return payload.get("global_user_id") is not None

    @override
    def build_request(self, items: Sequence[Delivery]) -> Request:
        if items[0].payload.get("global_user_id") is not None:
            return self._map_users(items)
        settings = self.settings
        body: dict[str, Any] = {
            "api_key": settings.api_key.get_secret_value(),
            "events": [{"insert_id": item.id, **_fields(item.payload)} for item in items],
        }
        if settings.min_id_length != 5:
            body["options"] = {"min_id_length": settings.min_id_length}
        return Request("POST", f"{settings.endpoint or HOSTS[settings.region]}/2/httpapi", body=body)

    def _map_users(self, items: Sequence[Delivery]) -> Request:
        settings = self.settings
        mapping = [{name: item.payload[name] for name in ("user_id", "global_user_id")} for item in items]
        form = {"api_key": settings.api_key.get_secret_value(), "mapping": orjson.dumps(mapping).decode()}
        url = f"{settings.endpoint or MAPPING_HOSTS[settings.region]}/usermap"
        return Request("POST", url, {"Content-Type": "application/x-www-form-urlencoded"}, urlencode(form).encode())

    @override
    def parse_response(self, response: Response, items: Sequence[Delivery]) -> Sequence[Result]:
        body = response.json if isinstance(response.json, dict) else {}
        if response.status == 400:
            if str(body.get("error", "")).lower().startswith("invalid api key"):
                return [AuthFailed()] * len(items)
            reasons = _listed(body)
            if not reasons:
                return split_or_fail(items, "status_400", str(body.get("missing_field") or ""))
            return [PermanentFailure("refused", reasons[n]) if n in reasons else Retry(0.0) for n in range(len(items))]
        if response.status == 429:
            throttled = _indexes(body.get("throttled_events"))
            pause = response.retry_after or PAUSE
            if not throttled:
                return [Throttled(pause)] * len(items)
            return [Throttled(pause, "user") if n in throttled else Retry(0.0) for n in range(len(items))]
        return super().parse_response(response, items)


def _fields(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return the payload without null fields and empty updates of the user. Null values inside properties are kept."""
    fields = {name: value for name, value in payload.items() if value is not None}
    updates = fields.get("user_properties")
    if isinstance(updates, dict):
        fields["user_properties"] = {name: value for name, value in updates.items() if value != {}}
        if not fields["user_properties"]:
            del fields["user_properties"]
    return fields


def _listed(body: Mapping[str, Any]) -> dict[int, str]:
    """Return the indexes of the events in the response's error lists, each with the list and the field."""
    reasons = dict.fromkeys(_indexes(body.get("silenced_events")), "silenced_events")
    for name in LISTS:
        fields = body.get(name)
        for field, indexes in fields.items() if isinstance(fields, dict) else ():
            reasons |= dict.fromkeys(_indexes(indexes), f"{name} {field}")
    return reasons


def _indexes(value: Any) -> frozenset[int]:
    return frozenset(n for n in value if isinstance(n, int)) if isinstance(value, list) else frozenset()
