"""Acme Events API. This is an example: replace each line with what your vendor documents."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any

from pydantic import Field

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
from forwarders.api.urls import Endpoint


class AcmeEvent(Payload):
    """One event, with Acme's field names and limits."""

    id: str | None = None
    name: Annotated[str, Field(min_length=1, max_length=100)]
    user: str
    time: str
    properties: dict[str, Any] | None = None


class AcmeSettings(Settings):
    """An account at Acme."""

    token: HeaderSecret
    """The account's token."""
    endpoint: Endpoint = "https://api.acme.example"
    """Send to this address instead, for tests and proxies."""


class Acme(HttpForwarder[AcmeSettings]):
    """Acme accepts the valid events of a request and lists the indexes of the others."""

    contract = Contract(
        name="acme",
        title="Acme",
        documentation="https://docs.acme.example/events",
        category=Category.ANALYTICS,
        settings=AcmeSettings,
        payload=AcmeEvent,
        limits=Limits(items=100, bytes=900_000, item_bytes=32_000),
        max_event_age=timedelta(days=7),
        dedupe_field="id",
        batch_failure=BatchFailure.LISTED,
        rates=(Rate(50),),
    )

    def build_request(self, items: Sequence[Delivery]) -> Request:
        """Build the request that sends these deliveries; `item.id` is the same on every attempt."""
        headers = {"Authorization": f"Bearer {self.settings.token.get_secret_value()}"}
        events = [{"id": item.id, **item.payload} for item in items]
        return Request("POST", f"{self.settings.endpoint}/v1/events", headers, {"events": events})

    def parse_response(self, response: Response, items: Sequence[Delivery]) -> Sequence[Result]:
        """Return one result per delivery; the base class handles the usual HTTP statuses."""
        listed = response.json.get("rejected") if isinstance(response.json, dict) else None
        if response.status != 200 or not isinstance(listed, list):
            return super().parse_response(response, items)
        return [PermanentFailure("refused") if number in listed else Delivered() for number in range(len(items))]
