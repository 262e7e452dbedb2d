"""Enforce the contracts' limits, rates and time windows as the vendors do, and count deliveries."""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from deploy.simulator.tokens import REFUSED, TokenEndpoint
from deploy.simulator.vendors import ANY, TOKEN, SeenRequest, Vendor, VendorReply
from forwarders import registry
from forwarders.api.contract import BatchFailure, Contract, Rate
from streams.parsing.times import seconds_of

MAX_KEYS: Final = 1_000_000
"""The maximum number of keys counted; beyond it, the counts start over."""


@dataclass
class VendorCounts:
    """A vendor's counts: requests, idempotency keys received, and how often each key was accepted."""

    requests: int = 0
    received: set[str] = field(default_factory=set)
    accepted: Counter[str] = field(default_factory=Counter)

    def data(self) -> dict[str, Any]:
        """Return JSON data: `repeated` are keys accepted more than once, `missing` those that were never accepted."""
        return {
            "requests": self.requests,
            "deliveries": self.accepted.total(),
            "keys": len(self.accepted),
            "repeated": {key: count for key, count in self.accepted.items() if count > 1},
            "missing": sorted(self.received - self.accepted.keys()),
        }


class VendorState:
    """The state of all simulated vendors: recent requests for the rate limits, tokens, and counts of deliveries."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._tokens = TokenEndpoint(clock)
        self._recent: dict[tuple[str, Rate], deque[tuple[float, int]]] = {}
        self._counts: dict[str, VendorCounts] = {}

    def count_request(self, vendor: Vendor, seen: SeenRequest) -> None:
        """Count a request from which no delivery is accepted."""
        counts = self._counts_of(vendor)
        counts.requests += 1
        counts.received.update(filter(None, _keys(vendor, seen, list(_items(vendor, seen.body)))))

    def respond(self, vendor: Vendor, seen: SeenRequest, poison: str | None = None) -> VendorReply:
        """Return the vendor's reply; items that contain the text `poison` are invalid."""
        self.count_request(vendor, seen)
        items = list(_items(vendor, seen.body))
        keys = _keys(vendor, seen, items)
        if vendor is ANY:
            self._accept(vendor, keys)
            return vendor.accept([])
        if vendor is TOKEN:
            return self._tokens.issue(seen.body)
        contract = registry.find(vendor.contract_of).contract
        if self._tokens.refuses(contract, seen.headers):
            return REFUSED
        if len(items) > contract.limits.items or _size(seen.body) > 2 * contract.limits.bytes:
            return VendorReply(413, {"error": "the request is too large"})
        if not self._within_rates(contract, len(items)):
            return vendor.throttled
        bad = [number for number, item in enumerate(items) if self._is_bad(vendor, contract, item, poison)]
        if bad:
            listed = contract.batch_failure is BatchFailure.LISTED
            keys = [key for number, key in enumerate(keys) if number not in bad] if listed else []
        self._accept(vendor, keys)
        return vendor.refuse(items, bad) if bad else vendor.accept(items)

    def counts(self) -> dict[str, dict[str, Any]]:
        """Return the counts of each vendor that received a request."""
        return {vendor: counts.data() for vendor, counts in self._counts.items()}

    def reset(self) -> None:
        """Reset the counts and rate limits."""
        self._counts.clear()
        self._recent.clear()

    def _counts_of(self, vendor: Vendor) -> VendorCounts:
        counts = self._counts.get(vendor.name)
        if counts is None or len(counts.received) > MAX_KEYS:
            counts = self._counts[vendor.name] = VendorCounts()
        return counts

    def _accept(self, vendor: Vendor, keys: Iterable[str | None]) -> None:
        self._counts_of(vendor).accepted.update(key for key in keys if key is not None)

    def _is_bad(self, vendor: Vendor, contract: Contract, item: Any, poison: str | None) -> bool:
        if poison is not None and poison.encode() in orjson.dumps(item):
            return True
        at = _time(vendor, item)
        return (
            contract.max_event_age is not None
            and at is not None
            and at < self._clock() - contract.max_event_age.total_seconds()
        )

    def _within_rates(self, contract: Contract, items: int) -> bool:
        """Return whether the request is within all rate limits; only then it counts towards them."""
        now, rows = self._clock(), []
        for rate in contract.rates:
            recent = self._recent.setdefault((contract.name, rate), deque())
            while recent and recent[0][0] <= now - rate.seconds:
                recent.popleft()
            weight = items if rate.of == "items" else 1
            if recent and sum(each for _, each in recent) + weight > rate.count:
                return False
            rows.append((recent, weight))
        for recent, weight in rows:
            recent.append((now, weight))
        return True


def _items(vendor: Vendor, body: Any) -> Iterator[Any]:
    if vendor.items is None:
        yield body
        return
    found = _at(body, vendor.items) if vendor.items else body
    if not isinstance(found, list) and vendor.name == "braze" and isinstance(body, Mapping):
        found = next((value for value in body.values() if isinstance(value, list)), [])
    yield from found if isinstance(found, list) else ()


def _keys(vendor: Vendor, seen: SeenRequest, items: Sequence[Any]) -> list[str | None]:
    """Return the idempotency key of each item, None for an item without one."""
    if vendor is ANY:
        return [seen.headers.get("idempotency-key")]
    found = [_at(item, vendor.key) if vendor.key else None for item in items]
    return [None if key is None else str(key) for key in found]


def _at(data: Any, place: str) -> Any:
    for step in place.split("."):
        data = data.get(step) if isinstance(data, Mapping) else None
    return data


def _time(vendor: Vendor, item: Any) -> float | None:
    value = _at(item, vendor.time) if vendor.time else None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value / vendor.unit
    try:
        return seconds_of(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _size(body: Any) -> int:
    return len(body.encode()) if isinstance(body, str) else len(orjson.dumps(body))
