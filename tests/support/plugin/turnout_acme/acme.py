"""Acme, a vendor that does not exist."""

from collections.abc import Sequence

from pydantic import SecretStr

from forwarders.api.contract import (
    Category,
    Contract,
    Delivery,
    HttpForwarder,
    Limits,
    Payload,
    Request,
    Settings,
)
from forwarders.api.urls import Endpoint


class AcmeSettings(Settings):
    """Where Acme is, and the token it gave out."""

    token: SecretStr
    endpoint: Endpoint = "https://api.acme.example"


class AcmeEvent(Payload):
    """What Acme wants to know."""

    id: str
    what: str
    who: str | None = None


class Acme(HttpForwarder[AcmeSettings]):
    """Up to 100 events a request."""

    contract = Contract(
        name="acme",
        title="Acme",
        documentation="https://docs.acme.example",
        category=Category.ANALYTICS,
        settings=AcmeSettings,
        payload=AcmeEvent,
        limits=Limits(items=100),
        dedupe_field="id",
    )

    def build_request(self, items: Sequence[Delivery]) -> Request:
        """All events as one JSON array."""
        headers = {"Authorization": f"Bearer {self.settings.token.get_secret_value()}"}
        return Request("POST", f"{self.settings.endpoint}/events", headers, [item.payload for item in items])
