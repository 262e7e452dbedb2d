"""Mixpanel Import API for events, and Engage API for profiles of users and groups."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlencode

from pydantic import ConfigDict, Field, model_validator
from typing_extensions import override

from forwarders.api.auth import Secret, basic
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
    split_or_fail,
)
from forwarders.api.keys import uuid_key
from forwarders.api.urls import Endpoint

HOSTS = {
    "us": "https://api.mixpanel.com",
    "eu": "https://api-eu.mixpanel.com",
    "in": "https://api-in.mixpanel.com",
}


InsertId = Annotated[str, Field(pattern="^[A-Za-z0-9-]{1,36}$")]


class MixpanelProperties(Payload):
    """An event's properties. Other properties are allowed."""

    model_config = ConfigDict(extra="allow")

    time: int
    distinct_id: str | None = None
    insert_id: Annotated[InsertId | None, Field(alias="$insert_id")] = None


class MixpanelPayload(Payload):
    """An event with properties, or an update of the profile of a user (`$distinct_id`) or group (`$group_key`)."""

    event: Annotated[str, Field(min_length=1)] | None = None
    properties: MixpanelProperties | None = None
    distinct_id: Annotated[str | None, Field(alias="$distinct_id")] = None
    group_key: Annotated[str | None, Field(alias="$group_key")] = None
    group_id: Annotated[str | None, Field(alias="$group_id")] = None
    set: Annotated[dict[str, Any] | None, Field(alias="$set")] = None
    set_once: Annotated[dict[str, Any] | None, Field(alias="$set_once")] = None
    unset: Annotated[list[str] | None, Field(alias="$unset")] = None
    ip: Annotated[str | int | None, Field(alias="$ip")] = None

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        changes = [self.set, self.set_once, self.unset]
        if self.event is not None:
            if self.properties is None or self.distinct_id or self.group_key or any(changes):
                raise ValueError("an event has properties, and no change to a profile beside it")
        elif (self.distinct_id is None) == (self.group_key is None or self.group_id is None):
            raise ValueError("needs one of: event, $distinct_id, $group_key and $group_id")
        elif sum(change is not None for change in changes) != 1:
            raise ValueError("a change to a profile has one of $set, $set_once and $unset")
        return self


class MixpanelServiceAccount(Settings):
    """A service account of the organization."""

    username: Annotated[str, Field(pattern="^[^:]+$")]
    """The service account's name."""
    secret: Secret
    """Its secret."""
    project_id: int
    """The project to import into."""


class MixpanelSettings(Settings):
    """Settings of a project."""

    token: Secret
    """The project's token."""
    service_account: MixpanelServiceAccount | None = None
    """Import events with this service account instead of the token."""
    region: Literal["us", "eu", "in"] = "us"
    """The project's region."""
    endpoint: Endpoint | None = None
    """Send to this address instead, for tests and proxies."""


class Mixpanel(HttpForwarder[MixpanelSettings]):
    """Mixpanel imports the valid events of a request and lists the invalid ones.

    It recognizes duplicates by event, distinct_id, time of day and `$insert_id`, which is derived from the delivery's
    ID.
    """

    contract = Contract(
        name="mixpanel",
        title="Mixpanel",
        aliases=("MP",),
        documentation="https://developer.mixpanel.com/reference/import-events",
        category=Category.ANALYTICS,
        settings=MixpanelSettings,
        payload=MixpanelPayload,
        limits=Limits(items=2000, bytes=9_500_000, item_bytes=900_000),
        dedupe_field="$insert_id",
        batch_failure=BatchFailure.LISTED,
        rates=(Rate(30_000, of="items"),),
    )

    @override
    def group_key(self, payload: Mapping[str, Any]) -> Hashable:
        """Group by endpoint, and updates of groups also by the group, since a request may contain only few of them."""
        if payload.get("event") is not None:
            return "import"
        return "engage" if payload.get("$group_key") is None else ("groups", str(payload.get("$group_id")))

    @override
    def build_request(self, items: Sequence[Delivery]) -> Request:
        base = self.settings.endpoint or HOSTS[self.settings.region]
        if items[0].payload.get("event") is not None:
            return self._import(base, items)
        path = "groups" if items[0].payload.get("$group_key") is not None else "engage"
        token = {"$token": self.settings.token.get_secret_value()}
        return Request("POST", f"{base}/{path}?verbose=1", body=[{**token, **item.payload} for item in items])

    def _import(self, base: str, items: Sequence[Delivery]) -> Request:
        query: dict[str, str | int] = {"strict": 1}
        if account := self.settings.service_account:
            query["project_id"] = account.project_id
            authorization = basic(account.username, account.secret)
        else:
            authorization = basic(self.settings.token.get_secret_value(), "")
        events = [
            {
                "event": item.payload["event"],
                "properties": {"$insert_id": uuid_key(item.id), **item.payload["properties"]},
            }
            for item in items
        ]
        return Request("POST", f"{base}/import?{urlencode(query)}", {"Authorization": authorization}, events)

    @override
    def parse_response(self, response: Response, items: Sequence[Delivery]) -> Sequence[Result]:
        body = response.json if isinstance(response.json, dict) else {}
        if response.status == 200 and body.get("status") == 0:  # a profile update
            return split_or_fail(items, "refused")
        failed = body.get("failed_records")
        if response.status == 400 and isinstance(failed, list):
            fields = {record.get("index"): record.get("field") for record in failed if isinstance(record, dict)}
            if any(n in fields for n in range(len(items))):
                return [
                    PermanentFailure("refused", str(fields[n])) if n in fields else Delivered()
                    for n in range(len(items))
                ]
        return super().parse_response(response, items)
