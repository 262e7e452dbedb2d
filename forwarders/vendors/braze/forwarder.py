"""Braze users/track endpoint."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, model_validator
from typing_extensions import override

from forwarders.api.auth import HeaderSecret
from forwarders.api.contract import (
    DELAY_PATTERN,
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
    Throttled,
)
from forwarders.api.fields import Currency
from forwarders.api.urls import Endpoint

ARRAYS = ("attributes", "events", "purchases")


class BrazeAlias(Payload):
    """An alias of a user."""

    alias_name: Annotated[str, Field(min_length=1)]
    alias_label: Annotated[str, Field(min_length=1)]


class Someone(Payload):
    """A user, identified by one of these fields."""

    external_id: Annotated[str, Field(min_length=1)] | None = None
    user_alias: BrazeAlias | None = None
    braze_id: str | None = None
    email: str | None = None
    phone: str | None = None

    @model_validator(mode="after")
    def _check_who(self) -> Self:
        if not (self.external_id or self.user_alias or self.braze_id or self.email or self.phone):
            raise ValueError("needs external_id, user_alias, braze_id, email or phone")
        return self


class Attributes(Someone):
    """Attributes of a user: Braze's own and custom ones."""

    model_config = ConfigDict(extra="allow")


class BrazeEvent(Someone):
    """A custom event."""

    name: Annotated[str, Field(min_length=1, max_length=255)]
    time: str
    app_id: str | None = None
    properties: dict[str, Any] | None = None


class Purchase(Someone):
    """A purchased product."""

    product_id: Annotated[str, Field(min_length=1, max_length=255)]
    currency: Currency
    price: float
    time: str
    quantity: Annotated[int, Field(ge=1, le=100)] | None = None
    app_id: str | None = None
    properties: dict[str, Any] | None = None


class BrazePayload(Payload):
    """Exactly one object in one of the arrays, since a request is limited to 75 objects. `match: all` sends several."""

    attributes: Annotated[list[Attributes], Field(min_length=1, max_length=1)] | None = None
    events: Annotated[list[BrazeEvent], Field(min_length=1, max_length=1)] | None = None
    purchases: Annotated[list[Purchase], Field(min_length=1, max_length=1)] | None = None

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if sum(getattr(self, array) is not None for array in ARRAYS) != 1:
            raise ValueError("needs one of attributes, events and purchases")
        return self


class BrazeSettings(Settings):
    """Settings of a workspace."""

    api_key: HeaderSecret
    """A REST API key with the permission `users.track`."""
    endpoint: Endpoint
    """The REST endpoint of the workspace's cluster, such as `https://rest.iad-01.braze.com`."""


class Braze(HttpForwarder[BrazeSettings]):
    """Braze accepts the valid objects of a request and lists the invalid ones. A repeated event counts twice."""

    contract = Contract(
        name="braze",
        title="Braze",
        aliases=(
            "Appboy",
            "Braze Cloud Mode",
            "Braze Web Mode",
            "Braze Web Device Mode",
        ),
        documentation="https://www.braze.com/docs/api/endpoints/user_data/post_user_track/",
        category=Category.CRM,
        settings=BrazeSettings,
        payload=BrazePayload,
        limits=Limits(items=75, bytes=3_900_000, item_bytes=100_000),
        ordered=True,
        batch_failure=BatchFailure.LISTED,
        rates=(Rate(3000, seconds=3),),
    )

    @override
    def build_request(self, items: Sequence[Delivery]) -> Request:
        body = {array: [entry for item in items for entry in item.payload.get(array) or ()] for array in ARRAYS}
        headers = {"Authorization": f"Bearer {self.settings.api_key.get_secret_value()}"}
        return Request(
            "POST",
            f"{self.settings.endpoint}/users/track",
            headers,
            {array: entries for array, entries in body.items() if entries},
        )

    @override
    def parse_response(self, response: Response, items: Sequence[Delivery]) -> Sequence[Result]:
        body = response.json if isinstance(response.json, dict) else {}
        errors = body.get("errors")
        if response.status == 429:
            return [Throttled(_seconds(response.headers) or response.retry_after)] * len(items)
        if response.status in (200, 201) and isinstance(errors, list):
            wrong = {
                (error.get("input_array"), error["index"])
                for error in errors
                if isinstance(error, dict) and isinstance(error.get("index"), int)
            }
            return [
                PermanentFailure("refused", place[0]) if place in wrong else Delivered() for place in _places(items)
            ]
        return super().parse_response(response, items)


def _places(items: Sequence[Delivery]) -> Iterator[tuple[str, int]]:
    """Yield the array and the index of each item's object in the request."""
    counts = dict.fromkeys(ARRAYS, 0)
    for item in items:
        array = next(array for array in ARRAYS if item.payload.get(array))
        yield array, counts[array]
        counts[array] += 1


def _seconds(headers: Mapping[str, str]) -> float | None:
    value = headers.get("x-ratelimit-retry-after", "")
    return float(value) if DELAY_PATTERN.fullmatch(value) else None
