"""Iterable bulk endpoints for events and users; purchases are sent one by one."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Self

import orjson
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
)
from forwarders.api.tolerance import needless
from forwarders.api.urls import Endpoint

HOSTS = {"us": "https://api.iterable.com", "eu": "https://api.eu.iterable.com"}


class Customer(Payload):
    """The customer of a purchase."""

    email: str | None = None
    userId: str | None = None  # noqa: N815
    preferUserId: bool | None = None  # noqa: N815
    mergeNestedObjects: bool | None = None  # noqa: N815
    dataFields: dict[str, Any] | None = None  # noqa: N815


class IterableProduct(Payload):
    """A product of a purchase."""

    id: str
    name: str
    price: float
    quantity: int
    sku: str | None = None
    description: str | None = None
    categories: list[str] | None = None
    imageUrl: str | None = None  # noqa: N815
    url: str | None = None
    dataFields: dict[str, Any] | None = None  # noqa: N815


class IterablePayload(Payload):
    """An event (`eventName`), a purchase (`user`, `items`, `total`), a merge of two users, or an update of a user."""

    email: str | None = None
    userId: str | None = None  # noqa: N815
    preferUserId: bool | None = None  # noqa: N815
    mergeNestedObjects: bool | None = None  # noqa: N815
    eventName: Annotated[str, Field(min_length=1)] | None = None  # noqa: N815
    id: str | None = None
    createdAt: int | None = None  # noqa: N815
    dataFields: dict[str, Any] | None = None  # noqa: N815
    campaignId: int | None = None  # noqa: N815
    templateId: int | None = None  # noqa: N815
    user: Customer | None = None
    items: list[IterableProduct] | None = None
    total: float | None = None
    sourceUserId: Annotated[str, Field(min_length=1)] | None = None  # noqa: N815
    destinationUserId: Annotated[str, Field(min_length=1)] | None = None  # noqa: N815

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        if (self.sourceUserId is None) != (self.destinationUserId is None):
            raise needless("a merge has sourceUserId and destinationUserId", "sourceUserId", "destinationUserId")
        if self.sourceUserId is not None:
            return self
        purchase = self.user is not None
        if purchase and (self.items is None or self.total is None or self.id is None or self.eventName is not None):
            raise ValueError("a purchase has user, items, total and id")
        who = self.user if self.user is not None else self
        if not (who.email or who.userId):
            raise ValueError("needs an email or a userId")
        return self


class IterableSettings(Settings):
    """Settings of a project."""

    api_key: HeaderSecret
    """A server-side API key."""
    region: Literal["us", "eu"] = "us"
    """The project's region."""
    endpoint: Endpoint | None = None
    """Send to this address instead, for tests and proxies."""


class Iterable(HttpForwarder[IterableSettings]):
    """Iterable's bulk responses list the rejected users and event names; it has processed the others.

    A repeated event has the same `id` and overwrites the first one. Iterable does not document whether it also starts a
    journey again. A replay is therefore not considered safe.
    """

    contract = Contract(
        name="iterable",
        title="Iterable",
        documentation="https://api.iterable.com/api/docs",
        category=Category.CRM,
        settings=IterableSettings,
        payload=IterablePayload,
        limits=Limits(items=1000, bytes=3_800_000, item_bytes=3_800_000),  # 4 MB, minus fields added per event
        ordered=True,
        batch_failure=BatchFailure.LISTED,
        rates=(Rate(5),),  # for users; bulk events may be twice as fast
    )

    @override
    def group_key(self, payload: Mapping[str, Any]) -> Hashable:
        """Group by endpoint. Purchases and merges are sent one by one; identical ones share a request."""
        if payload.get("user") is not None or payload.get("sourceUserId") is not None:
            return orjson.dumps(payload, option=orjson.OPT_SORT_KEYS)
        return "users" if payload.get("eventName") is None else "events"

    @override
    def build_request(self, items: Sequence[Delivery]) -> Request:
        payloads = [{name: value for name, value in item.payload.items() if value is not None} for item in items]
        body: dict[str, Any]
        match self.group_key(items[0].payload):
            case "events":
                path = "/api/events/trackBulk"
                body = {"events": [{"id": item.id, **payload} for item, payload in zip(items, payloads, strict=True)]}
            case "users":
                path, body = "/api/users/bulkUpdate", {"users": payloads}
            case _ if "user" in payloads[0]:
                path, body = "/api/commerce/trackPurchase", payloads[0]
            case _:
                path, body = "/api/users/merge", payloads[0]
        headers = {"Api-Key": self.settings.api_key.get_secret_value()}
        return Request("POST", f"{self.settings.endpoint or HOSTS[self.settings.region]}{path}", headers, body)

    @override
    def parse_response(self, response: Response, items: Sequence[Delivery]) -> Sequence[Result]:
        if response.status != 200 or not isinstance(response.json, dict):
            return super().parse_response(response, items)
        refused = dict(_refused(response.json))
        return [_result(item.payload, refused) for item in items]


def _refused(body: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield the field and value of each rejected user or event, with the name of its list, such as `invalidEmails`."""
    failed = body.get("failedUpdates")
    for part in (body, failed if isinstance(failed, dict) else {}):
        for name, values in part.items():
            if isinstance(values, list):
                kind = "email" if name.endswith("Emails") else "userId" if name.endswith("UserIds") else "eventName"
                yield from (((kind, value), name) for value in values if isinstance(value, str))


def _result(payload: Mapping[str, Any], refused: Mapping[tuple[str, str], str]) -> Result:
    for field in ("email", "userId", "eventName"):
        value = payload.get(field)
        if isinstance(value, str) and (field, value) in refused:
            return PermanentFailure("refused", refused[field, value])
    return Delivered()
