"""Customer.io Track API v2."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
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
)
from forwarders.api.tolerance import needless
from forwarders.api.urls import Endpoint

HOSTS = {"us": "https://track.customer.io", "eu": "https://track-eu.customer.io"}
EVENTS = frozenset({"event", "page", "screen"})
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class Identifiers(Payload):
    """Identifies a person by one field, or an object by both of its fields."""

    id: Annotated[str, Field(min_length=1, max_length=150)] | None = None
    email: str | None = None
    cio_id: str | None = None
    anonymous_id: Annotated[str, Field(max_length=150)] | None = None
    object_type_id: str | None = None
    object_id: str | None = None


class Relationship(Payload):
    """A person that an object is related to."""

    identifiers: Identifiers


class CustomerIoDevice(Payload):
    """A device that receives push notifications."""

    token: Annotated[str, Field(min_length=1)]
    platform: Literal["ios", "android"]
    last_used: int | None = None
    attributes: dict[str, Any] | None = None


class CustomerIoPayload(Payload):
    """An operation on a person, such as identify or an event, or on an object, such as a group.

    The `device` of an event is registered for the person, by an operation of its own in the same request.
    """

    type: Literal["person", "object"]
    action: Literal["identify", "event", "page", "screen", "add_device", "merge", "delete"]
    identifiers: Identifiers | None = None
    primary: Identifiers | None = None
    secondary: Identifiers | None = None
    device: CustomerIoDevice | None = None
    name: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    id: Annotated[str, Field(pattern="^[0-9A-HJKMNP-TV-Z]{26}$")] | None = None
    timestamp: int | None = None
    attributes: dict[str, Any] | None = None
    cio_relationships: list[Relationship] | None = None

    @model_validator(mode="after")
    def _check_operation(self) -> Self:
        if self.action == "merge":
            if self.primary is None or self.secondary is None:
                raise ValueError("merge has primary and secondary, and any other action has identifiers")
            if self.identifiers is not None:
                raise needless("merge has no identifiers", "identifiers")
        elif self.primary is not None or self.secondary is not None:
            raise needless(f"{self.action} has no primary and secondary", "primary", "secondary")
        elif self.identifiers is None:
            raise ValueError("merge has primary and secondary, and any other action has identifiers")
        for who in filter(None, (self.identifiers, self.primary, self.secondary)):
            self._check_who(set(who.model_dump(exclude_none=True)))
        if self.action in EVENTS and not self.name:
            raise ValueError(f"the action {self.action} needs a name")
        if self.action == "add_device" and self.device is None:
            raise ValueError("the action add_device needs a device")
        return self

    def _check_who(self, given: set[str]) -> None:
        if self.type == "object":
            if given != {"object_type_id", "object_id"} or self.action in EVENTS:
                raise ValueError("an object has object_type_id and object_id, and no events")
        elif len(given) != 1 or given & {"object_type_id", "object_id"}:
            raise ValueError("a person has one of id, email, cio_id and anonymous_id")
        elif "anonymous_id" in given and self.action not in EVENTS:
            raise ValueError("an anonymous person has events only")
        elif "anonymous_id" in given and self.device is not None:
            raise needless("an anonymous person has no device", "device")


class CustomerIoSettings(Settings):
    """Settings of a workspace."""

    site_id: Annotated[str, Field(pattern="^[^:]+$")]
    """The workspace's site ID."""
    api_key: Secret
    """The workspace's Track API key."""
    region: Literal["us", "eu"] = "us"
    """The workspace's region."""
    endpoint: Endpoint | None = None
    """Send to this address instead, for tests and proxies."""


class CustomerIo(HttpForwarder[CustomerIoSettings]):
    """Customer.io may list rejected operations in a response with status 200 or 207; it has processed the others.

    A repeated event has the same `id`: a ULID from the event's time and the delivery's ID.
    """

    contract = Contract(
        name="customerio",
        title="Customer.io",
        documentation="https://docs.customer.io/integrations/api/track/#operation/batch",
        category=Category.CRM,
        settings=CustomerIoSettings,
        payload=CustomerIoPayload,
        limits=Limits(items=1000, bytes=240_000, item_bytes=31_000),  # 500 KB and 32 KB, minus added fields and devices
        ordered=True,
        dedupe_field="id",
        batch_failure=BatchFailure.LISTED,
        rates=(Rate(3000, seconds=3),),
    )

    @override
    def build_request(self, items: Sequence[Delivery]) -> Request:
        settings = self.settings
        headers = {"Authorization": basic(settings.site_id, settings.api_key)}
        url = f"{settings.endpoint or HOSTS[settings.region]}/api/v2/batch"
        return Request(
            "POST", url, headers, {"batch": [operation for item in items for operation in _operations(item)]}
        )

    @override
    def parse_response(self, response: Response, items: Sequence[Delivery]) -> Sequence[Result]:
        errors = response.json.get("errors") if isinstance(response.json, dict) else None
        reasons = {
            error["batch_index"]: f"{error.get('reason')} {error.get('field')}"
            for error in (errors if isinstance(errors, list) else ())
            if isinstance(error, dict) and isinstance(error.get("batch_index"), int)
        }
        places = list(_places(items))
        if response.status in (200, 207, 400) and any(n in reasons for found in places for n in found):
            return [
                next((PermanentFailure("refused", reasons[n]) for n in found if n in reasons), Delivered())
                for found in places
            ]
        return super().parse_response(response, items)


def _operations(item: Delivery) -> Sequence[Mapping[str, Any]]:
    """Return the operation of a delivery, and that for its device if it is an event with one."""
    operation = {name: value for name, value in item.payload.items() if value is not None}
    if operation["action"] not in EVENTS:
        return [operation]
    device = operation.pop("device", None)
    event = {"id": ulid(item), **operation}
    if device is None:
        return [event]
    return [
        event,
        {"type": "person", "identifiers": operation["identifiers"], "action": "add_device", "device": device},
    ]


def _places(items: Sequence[Delivery]) -> Iterator[range]:
    """Yield the indexes of each delivery's operations in the request."""
    start = 0
    for item in items:
        count = len(_operations(item))
        yield range(start, start + count)
        start += count


def ulid(item: Delivery) -> str:
    """Return a ULID from the event's time in ms and 80 bits of the SHA-256 of the delivery's ID."""
    moment = datetime.fromisoformat(item.time)
    milliseconds = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    number = milliseconds << 80 | int.from_bytes(sha256(item.id.encode()).digest()[:10])
    return "".join(CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))
