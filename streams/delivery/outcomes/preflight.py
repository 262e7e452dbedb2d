"""Validate deliveries before they are batched: their age, size and payload."""

import math
from typing import Any

from forwarders.api.contract import CheckedPayload, Forwarder, Limits, check_payload
from streams.parsing.times import read_time, seconds_of


class Preflight:
    """Check deliveries by the vendor's contract; `max_age` in seconds lowers the contract's maximum age."""

    def __init__(self, forwarder: Forwarder[Any], limits: Limits, max_age: float | None) -> None:
        self._forwarder = forwarder
        self.item_bytes = limits.item_bytes
        oldest = forwarder.contract.max_age(max_age)
        self.max_age = None if oldest is None else oldest.total_seconds()

    def expiry(self, time: str) -> float:
        """Return when an event with this RFC 3339 time becomes too old, as Unix time; infinity if it never does."""
        if self.max_age is None:
            return math.inf
        try:
            # Deliveries from earlier versions may have other formats.
            text = read_time(time)
        except ValueError:
            return math.inf
        return seconds_of(text) + self.max_age if text else math.inf

    def check(self, payload: Any, size: int) -> CheckedPayload:
        """Return a payload as it is sent, or why the vendor would never accept it; `size` is that of its JSON."""
        return check_payload(self._forwarder, payload, size, self.item_bytes)
