"""Dead letters explain why a delivery failed and hold all that is needed to send it again, without secrets."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from forwarders.api.contract import PermanentFailure, Request, Response
from streams.delivery.outcomes.masking import Mask
from streams.delivery.outcomes.pending import PendingDelivery
from streams.observability.internal_error import INTERNAL, describe
from streams.parsing.times import rfc3339
from streams.records.dead_letter import DeadLetter

MAX_QUOTED_CHARACTERS = 4096
"""Maximum length of a vendor's response, and of a failure's detail, in a dead letter."""


@dataclass(frozen=True, slots=True)
class InternalFailure(PermanentFailure):
    """A delivery that raised an error in Turnout or in a forwarder."""

    error: Exception | None = None

    @classmethod
    def by(cls, error: Exception) -> "InternalFailure":
        """Create it from an error, without the error's message."""
        return cls(INTERNAL, describe(error), error)


class DeadLetterFactory:
    """Creates one integration's dead letters, with secrets replaced by `mask`."""

    def __init__(self, integration: str, mask: Mask, clock: Callable[[], float]) -> None:
        self._integration, self._mask, self._clock = integration, mask, clock

    def make(
        self, pending: PendingDelivery, failure: PermanentFailure, request: Request | None, response: Response | None
    ) -> DeadLetter:
        """Create the dead letter of a delivery; pass None for a request or response that does not exist."""
        return DeadLetter(
            self._integration,
            pending.delivery.data(),
            failure.reason,
            self._mask.excerpt(failure.detail, MAX_QUOTED_CHARACTERS),
            pending.attempts,
            rfc3339(self._clock()),
            self._masked(request) if request else None,
            {"status": response.status, "body": self._mask.excerpt(response.body, MAX_QUOTED_CHARACTERS)}
            if response
            else None,
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
