"""Braze users/track endpoint."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Self

import orjson
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
MAX_OBJECTS = 75
"""Maximum number of objects in a request, in all arrays together."""

PRODUCT_PROPERTIES = frozenset({"product_id", "product_name", "variant_id", "price", "quantity"})
"""Properties that Braze requires of each product in a recommended event."""
_ORDER = ("total_value", "currency", "products", "source")
REQUIRED_PROPERTIES: Mapping[str, Sequence[str]] = {
    "ecommerce.product_viewed": ("product_id", "product_name", "variant_id", "price", "currency", "source"),
    "ecommerce.cart_updated": ("cart_id", *_ORDER),
    "ecommerce.checkout_started": ("checkout_id", *_ORDER),
    "ecommerce.order_placed": ("order_id", *_ORDER),
    "ecommerce.order_refunded": ("order_id", *_ORDER),
    "ecommerce.order_cancelled": ("order_id", "cancel_reason", *_ORDER),
}
"""Properties that Braze requires of each recommended event."""


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
    update_existing_only: Annotated[bool | None, Field(alias="_update_existing_only")] = None

    @model_validator(mode="after")
    def _check_who(self) -> Self:
        if not (self.external_id or self.user_alias or self.braze_id or self.email or self.phone):
            raise ValueError("needs external_id, user_alias, braze_id, email or phone")
        return self


class Attributes(Someone):
    """Attributes of a user: Braze's own and custom ones."""

    model_config = ConfigDict(extra="allow")


class RecommendedEvent(Payload):
    """One of Braze's recommended eCommerce events."""

    name: Literal[
        "ecommerce.product_viewed",
        "ecommerce.cart_updated",
        "ecommerce.checkout_started",
        "ecommerce.order_placed",
        "ecommerce.order_refunded",
        "ecommerce.order_cancelled",
    ]
    properties: dict[str, Any]

    @property
    def complete(self) -> bool:
        """Return whether the event and its products have every property that Braze requires."""
        products = self.properties.get("products", ())
        return (
            all(self.properties.get(name) not in (None, "", []) for name in REQUIRED_PROPERTIES[self.name])
            and isinstance(products, list | tuple)
            and all(isinstance(each, dict) and _given(each) >= PRODUCT_PROPERTIES for each in products)
        )


class Occurrence(Someone):
    """An object with a time, which may come from `common`, so that rules need not write it in each object."""

    time: str | None = None

    @model_validator(mode="after")
    def _check_time(self) -> Self:
        if self.time is None:
            raise ValueError("needs a time")
        return self


class BrazeEvent(Occurrence):
    """A custom event. `recommended` is sent in its place if it has everything that Braze requires."""

    name: Annotated[str, Field(min_length=1, max_length=255)]
    app_id: str | None = None
    properties: dict[str, Any] | None = None
    recommended: RecommendedEvent | None = None


class Purchase(Occurrence):
    """A purchased product."""

    product_id: Annotated[str, Field(min_length=1, max_length=255)]
    currency: Currency
    price: float
    quantity: Annotated[int, Field(ge=1, le=100)] | None = None
    app_id: str | None = None
    properties: dict[str, Any] | None = None


class AliasToIdentify(Payload):
    """A user known by an alias only, who is merged into the user with an external ID."""

    external_id: Annotated[str, Field(min_length=1)]
    user_alias: BrazeAlias


class BrazePayload(Payload):
    """Objects of one event in any of the arrays, or one user to identify.

    `common` is Turnout's own: its fields are defaults for each object that has such a field. Its `properties` apply to
    purchases only.
    """

    common: dict[str, Any] | None = None
    attributes: Annotated[list[Attributes], Field(min_length=1)] | None = None
    events: Annotated[list[BrazeEvent], Field(min_length=1)] | None = None
    purchases: Annotated[list[Purchase], Field(min_length=1)] | None = None
    aliases_to_identify: Annotated[list[AliasToIdentify], Field(min_length=1, max_length=1)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _spread_common(cls, payload: Any) -> Any:
        return {**payload, **_objects(payload)} if isinstance(payload, dict) else payload

    @model_validator(mode="after")
    def _check_objects(self) -> Self:
        count = sum(len(getattr(self, array) or ()) for array in ARRAYS)
        if (count == 0) == (self.aliases_to_identify is None):
            raise ValueError("needs attributes, events or purchases, or else aliases_to_identify")
        if count > MAX_OBJECTS:
            raise ValueError(f"a request has at most {MAX_OBJECTS} objects")
        return self


FIELDS: Mapping[str, frozenset[str]] = {
    array: frozenset(field.alias or name for name, field in model.model_fields.items())
    for array, model in (("attributes", Attributes), ("events", BrazeEvent), ("purchases", Purchase))
}
"""The fields of each array's objects that `common` may set."""


def _objects(payload: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return a payload's arrays, with the fields of `common` in each object."""
    common = payload.get("common")
    common = common if isinstance(common, dict) else {}
    return {
        array: [_with_common(array, entry, common) for entry in entries]
        for array in ARRAYS
        if isinstance(entries := payload.get(array), list)
    }


def _with_common(array: str, entry: Any, common: Mapping[str, Any]) -> Any:
    if not isinstance(entry, dict):
        return entry
    fields = {name: value for name, value in common.items() if name in FIELDS[array] and name != "properties"}
    merged = {**fields, **{name: value for name, value in entry.items() if value is not None or name not in fields}}
    properties, own = common.get("properties"), entry.get("properties")
    if array == "purchases" and isinstance(properties, dict) and (own is None or isinstance(own, dict)):
        merged["properties"] = {**properties, **(own or {})}
    return merged


class BrazeSettings(Settings):
    """Settings of a workspace."""

    api_key: HeaderSecret
    """A REST API key with the permission `users.track`."""
    endpoint: Endpoint
    """The REST endpoint of the workspace's cluster, such as `https://rest.iad-01.braze.com`."""
    app_id: Annotated[str, Field(min_length=1)] | None = None
    """The app's identifier, which is put into events and purchases."""


class Braze(HttpForwarder[BrazeSettings]):
    """Braze accepts the valid objects of a request and lists the invalid ones. A repeated event counts twice.

    An order is an event and a purchase per product, in a request of its own. Objects of users that Braze knows by an
    alias only have `_update_existing_only: false`, since Braze otherwise drops them if the alias is new.
    """

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
        limits=Limits(items=50, bytes=3_900_000, item_bytes=100_000),  # 50 for users/identify; 75 for users/track
        ordered=True,
        batch_failure=BatchFailure.LISTED,
        rates=(Rate(3000, seconds=3),),
    )

    @override
    def group_key(self, payload: Mapping[str, Any]) -> Hashable:
        """Group by endpoint. A payload with several objects has a request of its own, shared by identical ones only."""
        if payload.get("aliases_to_identify"):
            return "identify"
        several = sum(len(payload.get(array) or ()) for array in ARRAYS) > 1
        return orjson.dumps(payload, option=orjson.OPT_SORT_KEYS) if several else "track"

    @override
    def build_request(self, items: Sequence[Delivery]) -> Request:
        headers = {"Authorization": f"Bearer {self.settings.api_key.get_secret_value()}"}
        base = self.settings.endpoint
        if items[0].payload.get("aliases_to_identify"):
            body = {"aliases_to_identify": [item.payload["aliases_to_identify"][0] for item in items]}
            return Request("POST", f"{base}/users/identify", headers, {**body, "merge_behavior": "merge"})
        app = {"app_id": self.settings.app_id} if self.settings.app_id else {}
        arrays: dict[str, list[Any]] = {}
        for objects in _requested(items):
            for array, entries in objects.items():
                arrays.setdefault(array, []).extend(
                    entry if array == "attributes" else {**app, **_recommended(entry)} for entry in entries
                )
        return Request("POST", f"{base}/users/track", headers, arrays)

    @override
    def parse_response(self, response: Response, items: Sequence[Delivery]) -> Sequence[Result]:
        body = response.json if isinstance(response.json, dict) else {}
        errors = body.get("errors")
        if response.status == 429:
            return [Throttled(_seconds(response.headers) or response.retry_after)] * len(items)
        if response.status in (200, 201) and isinstance(errors, list):
            wrong = {
                (str(error.get("input_array")), error["index"])
                for error in errors
                if isinstance(error, dict) and isinstance(error.get("index"), int)
            }
            found = [sorted({array for array, _ in wrong & places}) for places in _places(items)]
            return [PermanentFailure("refused", ", ".join(arrays)) if arrays else Delivered() for arrays in found]
        return super().parse_response(response, items)


def _given(product: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(name for name, value in product.items() if value not in (None, ""))


def _recommended(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event as its recommended event, or under its own name if that is incomplete."""
    event = {name: value for name, value in entry.items() if name != "recommended"}
    if given := entry.get("recommended"):
        recommended = RecommendedEvent.model_validate(given)
        if recommended.complete:
            properties = {name: value for name, value in recommended.properties.items() if value != {}}
            return {**event, "name": recommended.name, "properties": properties}
    return event


def _requested(items: Sequence[Delivery]) -> Iterator[dict[str, list[Any]]]:
    """Yield the objects of each delivery that has its own in the request."""
    several = sum(len(items[0].payload.get(array) or ()) for array in ARRAYS) > 1
    for item in items[:1] if several else items:
        yield _objects(item.payload)


def _places(items: Sequence[Delivery]) -> Iterator[frozenset[tuple[str, int]]]:
    """Yield the arrays and indexes of each delivery's objects in the request."""
    counts = dict.fromkeys(ARRAYS, 0)
    requested = list(_requested(items))
    for objects in requested:
        places: set[tuple[str, int]] = set()
        for array, entries in objects.items():
            places.update((array, counts[array] + number) for number in range(len(entries)))
            counts[array] += len(entries)
        # Identical deliveries share the objects of the first one.
        yield from [frozenset(places)] * (len(items) if len(requested) < len(items) else 1)


def _seconds(headers: Mapping[str, str]) -> float | None:
    value = headers.get("x-ratelimit-retry-after", "")
    return float(value) if DELAY_PATTERN.fullmatch(value) else None
