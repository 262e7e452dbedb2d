"""Dead letters: all that is needed to understand a delivery's end and to send it again, without a secret in it."""

from collections.abc import Callable, Mapping
from typing import Any

from forwarders.contract import Answer, Dead, Request
from streams.delivery.masking import Mask
from streams.delivery.parcels import Parcel
from streams.times import rfc3339
from streams.topics import DeadLetter

QUOTED_BYTES = 4096
"""How much of a vendor's answer a dead letter keeps."""


class Letters:
    """Writes one integration's dead letters, with `mask` over all that may hold a secret."""

    def __init__(self, integration: str, mask: Mask, clock: Callable[[], float]) -> None:
        self._integration, self._mask, self._clock = integration, mask, clock

    def write(self, parcel: Parcel, dead: Dead, request: Request | None, answer: Answer | None) -> DeadLetter:
        """The letter of a delivery; request and answer are None where it did not come to that."""
        return DeadLetter(
            self._integration,
            parcel.delivery.data(),
            dead.reason,
            self._mask(dead.detail),
            parcel.attempts,
            rfc3339(self._clock()),
            self._masked(request) if request else None,
            {"status": answer.status, "body": self._mask(answer.body[:QUOTED_BYTES].decode(errors="replace"))}
            if answer
            else None,
        )

    def _masked(self, request: Request) -> Mapping[str, Any]:
        return {
            "method": request.method,
            "url": self._mask(request.url),
            "headers": {
                name: "***" if name.lower() == "authorization" else self._mask(value)
                for name, value in request.headers.items()
            },
        }
