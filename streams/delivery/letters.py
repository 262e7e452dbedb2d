"""Dead letters: all that is needed to understand a delivery's end and to send it again, without a secret in it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from forwarders.contract import Answer, Dead, Request
from streams.delivery.masking import Mask
from streams.delivery.parcels import Parcel
from streams.internal_error import INTERNAL, describe
from streams.times import rfc3339
from streams.topics import DeadLetter

QUOTED_CHARACTERS = 4096
"""How much of a vendor's answer, and of what is made of it, a dead letter keeps."""


@dataclass(frozen=True, slots=True)
class Failed(Dead):
    """A delivery that could not be handled: an error of Turnout's or of a forwarder's."""

    error: Exception | None = None

    @classmethod
    def by(cls, error: Exception) -> "Failed":
        """Make it of an error, without the error's text."""
        return cls(INTERNAL, describe(error), error)


class Letters:
    """Writes one integration's dead letters, with `mask` over all that may hold a secret."""

    def __init__(self, integration: str, mask: Mask, clock: Callable[[], float]) -> None:
        self._integration, self._mask, self._clock = integration, mask, clock

    def write(self, parcel: Parcel, dead: Dead, request: Request | None, answer: Answer | None) -> DeadLetter:
        """Write the letter of a delivery; request and answer are None if it did not come to that."""
        return DeadLetter(
            self._integration,
            parcel.delivery.data(),
            dead.reason,
            self._mask.excerpt(dead.detail, QUOTED_CHARACTERS),
            parcel.attempts,
            rfc3339(self._clock()),
            self._masked(request) if request else None,
            {"status": answer.status, "body": self._mask.excerpt(answer.body, QUOTED_CHARACTERS)} if answer else None,
        )

    def _masked(self, request: Request) -> Mapping[str, Any]:
        return {
            "method": str(request.method),
            "url": self._mask(str(request.url)),
            "headers": {
                str(name): "***" if str(name).lower() == "authorization" else self._mask(str(value))
                for name, value in request.headers.items()
            },
        }
