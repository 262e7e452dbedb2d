"""Dead letters: all that is needed to understand a delivery's end and to send it again, without a secret in it."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, SecretStr

from forwarders.contract import Answer, Dead, Request
from streams.delivery.parcels import Parcel
from streams.events import rfc3339
from streams.topics import DeadLetter

QUOTED_BYTES = 4096
"""How much of a vendor's answer a dead letter keeps."""


class Letters:
    """Writes one integration's dead letters; the secrets of `settings` are masked wherever they stand."""

    def __init__(self, integration: str, settings: BaseModel, clock: Callable[[], float]) -> None:
        self._integration, self._clock = integration, clock
        # The longest first, since one may contain another.
        self._secrets = sorted(_secrets(settings), key=len, reverse=True)

    def write(self, parcel: Parcel, dead: Dead, request: Request | None, answer: Answer | None) -> DeadLetter:
        """The letter of a delivery; request and answer are None where it did not come to that."""
        return DeadLetter(
            self._integration,
            parcel.delivery.data(),
            dead.reason,
            self.mask(dead.detail),
            parcel.attempts,
            rfc3339(self._clock()),
            self._masked(request) if request else None,
            {"status": answer.status, "body": self.mask(answer.body[:QUOTED_BYTES].decode(errors="replace"))}
            if answer
            else None,
        )

    def mask(self, text: str) -> str:
        """The text with *** for each secret."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def _masked(self, request: Request) -> Mapping[str, Any]:
        return {
            "method": request.method,
            "url": self.mask(request.url),
            "headers": {
                name: "***" if name.lower() == "authorization" else self.mask(value)
                for name, value in request.headers.items()
            },
        }


def _secrets(settings: BaseModel) -> Iterator[str]:
    """Every secret of a forwarder's settings, wherever it stands."""
    for _, value in settings:
        if isinstance(value, SecretStr) and value.get_secret_value():
            yield value.get_secret_value()
        elif isinstance(value, BaseModel):
            yield from _secrets(value)
