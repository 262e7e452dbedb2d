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
    """Acme's address, and the token."""

    token: SecretStr
    endpoint: Endpoint = "https://api.acme.example"


class AcmeEvent(Payload):
    """One event for Acme."""

    id: str
    what: str
    who: str | None = None


class Acme(HttpForwarder[AcmeSettings]):
    """Accepts up to 100 events per request."""

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
        """Send all events as one JSON array."""
        headers = {"Authorization": f"Bearer {self.settings.token.get_secret_value()}"}
        return Request("POST", f"{self.settings.endpoint}/events", headers, [item.payload for item in items])
