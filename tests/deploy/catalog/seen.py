"""Make events in the form of the ledger's catalog."""

from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson

from deploy.catalog.seen_events import CatalogEvent, merge_sources
from streams.ledger.api import catalog_data
from streams.ledger.catalog import CatalogBounds, sample_of
from streams.ledger.sqlite_store import SqliteStore
from streams.ledger.store import LedgerBatch


def samples_of(events: Iterable[tuple[str, dict[str, Any]]]) -> list[Any]:
    """Return the samples of events, each with its source."""
    return [sample_of(orjson.dumps(event), source, 1_700_000_000) for source, event in events]


def seen_events(*events: tuple[str, dict[str, Any]]) -> list[CatalogEvent]:
    """Return the catalog after these events, each with its source."""
    return merge_sources(catalog_data(CatalogBounds(()).sums(samples_of(events))))


def write_catalog(folder: Path, *events: tuple[str, dict[str, Any]]) -> None:
    """Write a ledger whose catalog has these events."""
    with closing(SqliteStore(folder, b"a key for users, long", 7)) as store:
        store.write(LedgerBatch(samples=samples_of(events)))


def track(event: str, **properties: Any) -> tuple[str, dict[str, Any]]:
    """Return an event of the source `web`."""
    return "web", {"type": "track", "event": event, "properties": properties}
