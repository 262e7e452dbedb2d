"""Acme by its Events API: an example, in which each line stands for something that a vendor documents."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any

from pydantic import Field

from forwarders.auth import HeaderSecret
from forwarders.contract import (
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
from forwarders.urls import Endpoint


class AcmeEvent(Payload):
    """One event, with Acme's own field names and bounds."""

    id: str | None = None
    name: Annotated[str, Field(min_length=1, max_length=100)]
    user: str
    time: str
    properties: dict[str, Any] | None = None


class AcmeSettings(Settings):
    """An account."""

    token: HeaderSecret
    """The account's token."""
    endpoint: Endpoint = "https://api.acme.example"
    """The address to send to instead of the vendor's own: for tests and proxies."""


class Acme(HttpForwarder[AcmeSettings]):
    """Acme takes the good events of a request, and lists the others by their place."""

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
        """The one request that carries these deliveries; `item.id` is the same on every attempt."""
        headers = {"Authorization": f"Bearer {self.settings.token.get_secret_value()}"}
        events = [{"id": item.id, **item.payload} for item in items]
        return Request("POST", f"{self.settings.endpoint}/v1/events", headers, {"events": events})

    def parse_response(self, response: Response, items: Sequence[Delivery]) -> Sequence[Result]:
        """One result a delivery; the base class reads the statuses that all vendors share."""
        listed = response.json.get("rejected") if isinstance(response.json, dict) else None
        if response.status != 200 or not isinstance(listed, list):
            return super().parse_response(response, items)
        return [PermanentFailure("refused") if number in listed else Delivered() for number in range(len(items))]
