"""How each vendor answers a request that is right. A vendor is found by the longest prefix of the path."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that came in. `body` is JSON data where it is JSON, else text; header names are lower-case."""

    number: int
    at: str
    vendor: str
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any


@dataclass(frozen=True, slots=True)
class Reply:
    """What the simulator answers; a body is JSON data, a string as it stands, or None for no body."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Vendor:
    """One vendor: where its API lies, and what it answers."""

    name: str
    prefixes: Sequence[str]
    answer: Callable[[Seen], Reply]


def _accepted(_: Seen) -> Reply:
    return Reply(200, {})


def _no_content(_: Seen) -> Reply:
    return Reply(204)


def _no_complaints(_: Seen) -> Reply:
    return Reply(200, {"validationMessages": []})


ANY = Vendor("webhook", ["/"], _accepted)

VENDORS = (
    ANY,
    Vendor("ga4", ["/mp/collect"], _no_content),
    Vendor("ga4 debug", ["/debug/mp/collect"], _no_complaints),
)

_BY_PREFIX = sorted(((prefix, vendor) for vendor in VENDORS for prefix in vendor.prefixes), key=lambda it: -len(it[0]))


def find_vendor(path: str) -> Vendor:
    """The vendor whose API has this path."""
    return next((vendor for prefix, vendor in _BY_PREFIX if path.startswith(prefix)), ANY)
