"""Klaviyo JSON:API for events and profiles."""

from collections.abc import Sequence
from datetime import date
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
    PermanentFailure,
    Rate,
    Request,
    Response,
    Result,
    Settings,
    Version,
)
from forwarders.api.fields import Currency, without_nulls
from forwarders.api.urls import Endpoint

PATHS = {"event": "/api/events", "profile": "/api/profile-import"}


class ProfileAttributes(Payload):
    """A person, identified by at least one of id, email, phone_number and external_id."""

    email: str | None = None
    phone_number: Annotated[str, Field(pattern=r"^\+[1-9][0-9]{6,14}$")] | None = None
    external_id: str | None = None
    anonymous_id: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    organization: str | None = None
    locale: str | None = None
    title: str | None = None
    image: str | None = None
    location: dict[str, Any] | None = None
    properties: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _check_who(self) -> Self:
        if not (self.email or self.phone_number or self.external_id):
            raise ValueError("a profile needs email, phone_number or external_id")
        return self


class Profile(Payload):
    """A profile that is created or updated."""

    type: Literal["profile"]
    attributes: ProfileAttributes


class MetricAttributes(Payload):
    """The name of a metric."""

    name: Annotated[str, Field(min_length=1, max_length=128)]


class Metric(Payload):
    """A metric. Klaviyo creates it if it does not exist."""

    type: Literal["metric"]
    attributes: MetricAttributes


class MetricData(Payload):
    """The JSON:API envelope of a metric."""

    data: Metric


class ProfileData(Payload):
    """The JSON:API envelope of a profile."""

    data: Profile


class EventAttributes(Payload):
    """An event's profile, metric, time and properties."""

    metric: MetricData
    profile: ProfileData
    properties: Annotated[dict[str, Any], Field(max_length=400)]
    time: str | None = None
    value: float | None = None
    value_currency: Currency | None = None
    unique_id: str | None = None


class KlaviyoEvent(Payload):
    """An event."""

    type: Literal["event"]
    attributes: EventAttributes


class KlaviyoPayload(Payload):
    """A JSON:API document with an event or a profile."""

    data: Annotated[KlaviyoEvent | Profile, Field(discriminator="type")]


class KlaviyoSettings(Settings):
    """Settings of an account."""

    api_key: HeaderSecret
    """A private API key with write access to events and profiles."""
    revision: Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")] = "2026-04-15"
    """The revision of the API."""
    endpoint: Endpoint = "https://a.klaviyo.com"
    """Send to this address instead, for tests and proxies."""


class Klaviyo(HttpForwarder[KlaviyoSettings]):
    """Each event or profile is a request. A repeated event has the same `unique_id`, and Klaviyo counts it once."""

    contract = Contract(
        name="klaviyo",
        title="Klaviyo",
        documentation="https://developers.klaviyo.com/en/reference/create_event",
        category=Category.CRM,
        settings=KlaviyoSettings,
        payload=KlaviyoPayload,
        limits=Limits(items=1, bytes=4_900_000, item_bytes=4_900_000),
        dedupe_field="unique_id",
        rates=(Rate(75), Rate(700, seconds=60)),  # for profiles; events may be five times as fast
        versions=(Version("2026-04-15", sunset=date(2028, 4, 15)),),
        version_setting="revision",
    )

    @override
    def build_request(self, items: Sequence[Delivery]) -> Request:
        settings = self.settings
        data: dict[str, Any] = without_nulls(items[0].payload["data"])
        if data["type"] == "event":
            data["attributes"] = {"unique_id": items[0].id, **data["attributes"]}
        headers = {
            "Authorization": f"Klaviyo-API-Key {settings.api_key.get_secret_value()}",
            "Accept": "application/vnd.api+json",
            "Content-Type": "application/vnd.api+json",
            "revision": settings.revision,
        }
        return Request("POST", settings.endpoint + PATHS[data["type"]], headers, {"data": data})

    @override
    def parse_response(self, response: Response, items: Sequence[Delivery]) -> Sequence[Result]:
        errors = response.json.get("errors") if isinstance(response.json, dict) else None
        if response.status in (400, 409) and isinstance(errors, list) and errors and isinstance(errors[0], dict):
            source = errors[0].get("source")
            pointer = source.get("pointer") if isinstance(source, dict) else None
            return [
                PermanentFailure(str(errors[0].get("code") or f"status_{response.status}"), str(pointer or ""))
            ] * len(items)
        return super().parse_response(response, items)
