"""Group the ledger's catalog by event: the events that arrived, their sources and their properties."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from deploy.config.configuration import Configuration
from deploy.ledger.client import LedgerClient
from streams.ledger.catalog import ID, MAX_KINDS, OTHER


@dataclass(frozen=True, slots=True)
class CatalogProperty:
    """A property: the number of sampled events that have it, in total and by JSON type."""

    path: str
    number: int
    share: float
    types: Mapping[str, int]
    first: str
    last: str


@dataclass(frozen=True, slots=True)
class CatalogEvent:
    """Events of one type and name, from all sources; `sampled` is the number of events in the catalog's sample."""

    type: str
    event: str | None
    sources: tuple[str, ...]
    sampled: int
    first: str
    last: str
    properties: Mapping[str, CatalogProperty]

    @property
    def label(self) -> str:
        """The name of a track event, or the type of another one."""
        return self.event or self.type

    @property
    def is_cut(self) -> bool:
        """Whether it has more properties than the catalog lists one by one."""
        return OTHER in self.properties


def merge_sources(kinds: Iterable[Mapping[str, Any]]) -> list[CatalogEvent]:
    """Return the events of the ledger's `/catalog`, merged over all sources, the most frequent first."""
    groups: dict[tuple[str, str | None], list[Mapping[str, Any]]] = defaultdict(list)
    for kind in kinds:
        groups[kind["type"], kind["event"]].append(kind)
    found = [_merge(*key, group) for key, group in groups.items()]
    return sorted(found, key=lambda seen: (-seen.sampled, seen.label))


def read_seen(configuration: Configuration, source: str | None = None) -> list[CatalogEvent]:
    """Return the events that the ledger has seen, from one source or from all.

    Raises LedgerAwayError and LedgerRefusedError.
    """
    client = LedgerClient(configuration.settings.ledger, configuration.folder)
    return merge_sources(client.ask("/catalog", {"source": source, "limit": MAX_KINDS})["events"])


def is_name(name: str) -> bool:
    """Return whether a name in the catalog is of one event or property, and not a placeholder for several."""
    return not any(mark in name for mark in (ID, OTHER, "#"))


def _merge(type_: str, event: str | None, kinds: list[Mapping[str, Any]]) -> CatalogEvent:
    sampled = sum(kind["sampled"] for kind in kinds)
    numbers: Counter[str] = Counter()
    types: dict[str, Counter[str]] = defaultdict(Counter)
    times: dict[str, list[str]] = defaultdict(list)
    for kind in kinds:
        for each in kind["properties"]:
            numbers[each["name"]] += round(each["share"] * kind["sampled"])
            types[each["name"]].update({name: round(it * kind["sampled"]) for name, it in each["types"].items()})
            times[each["name"]] += [each["first"], each["last"]]
    properties = {
        path: CatalogProperty(
            path, number, number / sampled, dict(types[path].most_common()), min(times[path]), max(times[path])
        )
        for path, number in sorted(numbers.items())
    }
    first, last = min(kind["first"] for kind in kinds), max(kind["last"] for kind in kinds)
    return CatalogEvent(type_, event, tuple(sorted(kind["source"] for kind in kinds)), sampled, first, last, properties)
