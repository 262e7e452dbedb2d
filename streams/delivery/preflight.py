"""What is wrong with a delivery, found before it could spoil a batch: its age, its size, its fields."""

import math
from typing import Any

from forwarders.contract import Dead, Forwarder, Limits, find_problem
from streams.times import read_time, seconds_of


class Preflight:
    """Checks deliveries by the vendor's contract; `max_age` in seconds narrows the vendor's window."""

    def __init__(self, forwarder: Forwarder[Any], limits: Limits, max_age: float | None) -> None:
        self._forwarder = forwarder
        self.item_bytes = limits.item_bytes
        oldest = forwarder.contract.oldest(max_age)
        self.max_age = None if oldest is None else oldest.total_seconds()

    def expiry(self, time: str) -> float:
        """When a delivery of an event of this RFC 3339 time is too old, in seconds since 1970; never is infinity."""
        if self.max_age is None:
            return math.inf
        try:
            # Deliveries that an earlier version wrote may have other forms.
            text = read_time(time)
        except ValueError:
            return math.inf
        return seconds_of(text) + self.max_age if text else math.inf

    def problem(self, payload: Any, size: int) -> Dead | None:
        """Why the vendor would never take this payload, of so many bytes of JSON."""
        return find_problem(self._forwarder, payload, size, self.item_bytes)
