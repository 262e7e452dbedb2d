"""HubSpot custom events and contacts."""

from collections.abc import Hashable, Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from typing_extensions import override

from forwarders.api import oauth
from forwarders.api.contract import (
    Authorization,
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
    split_or_fail,
)
from forwarders.api.fields import without_nulls
from forwarders.api.keys import uuid_key
from forwarders.api.oauth import AccessToken, RefreshToken
from forwarders.api.urls import Endpoint

PATHS = {
    "2026-03": ("/events/2026-03/send/batch", "/crm/objects/2026-03/contacts/batch/upsert"),
    "v3": ("/events/v3/send/batch", "/crm/v3/objects/contacts/batch/upsert"),
}

Name = Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$", max_length=100)]


class HubSpotPayload(Payload):
    """An event with an `eventName`, or a contact with an `id`. Values of properties are strings."""

    eventName: Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$")] | None = None  # noqa: N815
    email: str | None = None
    utk: str | None = None
    objectId: str | None = None  # noqa: N815
    occurredAt: str | None = None  # noqa: N815
    uuid: str | None = None
    id: Annotated[str, Field(min_length=1)] | None = None
    idProperty: str | None = None  # noqa: N815
    properties: dict[Name, str | None] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        if (self.eventName is None) == (self.id is None):
            raise ValueError("needs an eventName, for an event, or an id, for a contact")
        if self.eventName is not None and not (self.email or self.utk or self.objectId):
            raise ValueError("an event needs an email, utk or objectId")
        if self.eventName is not None and len(self.properties) > 50:
            raise ValueError("an event has at most 50 properties")
        return self


class HubSpotSettings(Settings):
    """Settings of an account."""

    auth: Annotated[AccessToken | RefreshToken, Field(discriminator="type")]
    """`static` for a private app's token, or `oauth_refresh` for a public app."""
    hub_id: Annotated[int, Field(gt=0)]
    """The account's ID. Events are named `pe{hub_id}_{name}`."""
    api_version: Literal["2026-03", "v3"] = "2026-03"
    """The version of the API."""
    endpoint: Endpoint = "https://api.hubapi.com"
    """Send to this address instead, for tests and proxies."""
    token_endpoint: Endpoint = "https://api.hubapi.com/oauth/v3/token"  # noqa: S105
    """Request access tokens from this address instead, for tests and proxies."""


class HubSpot(HttpForwarder[HubSpotSettings]):
    """Define each event and its properties in HubSpot before you send it. This requires an Enterprise edition.

    Contacts are created or updated by their `idProperty`. If a request contains several updates of a contact, the later
    ones win. Events have a `uuid` that is the same on every attempt; HubSpot rejects an event whose `uuid` it received
    within a year.
    """

    contract = Contract(
        name="hubspot",
        title="HubSpot",
        aliases=(
            "HS",
            "HubSpot Cloud Mode",
        ),
        documentation="https://developers.hubspot.com/docs/api-reference/latest/events/send-event-data/guide",
        category=Category.CRM,
        settings=HubSpotSettings,
        payload=HubSpotPayload,
        limits=Limits(items=100, bytes=3_000_000, item_bytes=100_000),  # for contacts; 500 for events
        ordered=True,
        dedupe_field="uuid",
        dedupe_window=timedelta(days=365),
        batch_failure=BatchFailure.WHOLE,
        rates=(Rate(100, seconds=10),),
        versions=(Version("2026-03"), Version("v3")),
        auth_methods=("static", "oauth_refresh"),
        authorization=Authorization(
            "https://app.hubspot.com/oauth/authorize",
            "oauth crm.objects.contacts.write analytics.behavioral_events.send",
        ),
    )

    @override
    def build_token_request(self, now: float) -> Request | None:
        return oauth.build_token_request(self.settings.auth, self.settings.token_endpoint, now)

    @override
    def group_key(self, payload: Mapping[str, Any]) -> Hashable:
        return payload.get("eventName") is None

    @override
    def build_request(self, items: Sequence[Delivery]) -> Request:
        contacts = items[0].payload.get("eventName") is None
        inputs = _contacts(items) if contacts else [self._event(item) for item in items]
        path = PATHS[self.settings.api_version][contacts]
        headers = oauth.headers(self.settings.auth)
        return Request("POST", f"{self.settings.endpoint}{path}", headers, {"inputs": inputs})

    def _event(self, item: Delivery) -> dict[str, Any]:
        event: dict[str, Any] = {"uuid": uuid_key(item.id), "properties": {}, **without_nulls(item.payload)}
        prefix = f"pe{self.settings.hub_id}_"
        name = event["eventName"]
        return {**event, "eventName": name if name.startswith(prefix) else prefix + name}

    @override
    def parse_response(self, response: Response, items: Sequence[Delivery]) -> Sequence[Result]:
        if response.status != 207:
            return super().parse_response(response, items)
        ids = set(_named(response.json))
        if any(item.payload.get("id") in ids for item in items):
            return [PermanentFailure("refused") if item.payload.get("id") in ids else Delivered() for item in items]
        return split_or_fail(items, "refused")


def _contacts(items: Sequence[Delivery]) -> list[dict[str, Any]]:
    """Merge the updates of each contact, since HubSpot rejects requests with duplicate contacts."""
    contacts: dict[tuple[str | None, str], dict[str, Any]] = {}
    for item in items:
        contact: dict[str, Any] = without_nulls(item.payload)
        place = (contact.get("idProperty"), contact["id"])
        properties = {**contacts.get(place, {}).get("properties", {}), **contact.get("properties", {})}
        contacts[place] = {**contact, "properties": properties}
    return list(contacts.values())


def _named(body: Any) -> list[str]:
    """Return the contact IDs in the errors of a partly rejected request."""
    errors = body.get("errors") if isinstance(body, dict) else None
    contexts = [error.get("context") for error in errors if isinstance(error, dict)] if isinstance(errors, list) else []
    return [
        value
        for context in contexts
        if isinstance(context, dict)
        for values in context.values()
        if isinstance(values, list)
        for value in values
        if isinstance(value, str)
    ]
