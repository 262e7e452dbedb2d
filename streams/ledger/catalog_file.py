"""Store the catalog of events and properties in a file of the ledger.

Its numbers come from a sample, so losing the latest ones in a crash is acceptable.
"""

from collections.abc import Sequence
from pathlib import Path

from streams.ledger import day_file
from streams.ledger.catalog import CatalogBounds, CatalogRow, EventSample
from streams.records.run_header import Kind

CATALOG_FILE = "catalog.db"

SCHEMA = """
CREATE TABLE IF NOT EXISTS catalog(
  source TEXT, type TEXT, name TEXT, property TEXT, json_type TEXT, count INTEGER, first INTEGER, last INTEGER,
  PRIMARY KEY(source, type, name, property, json_type)
) WITHOUT ROWID;
"""


def read_catalog(folder: Path) -> Sequence[CatalogRow]:
    """Return the rows in a folder's file."""
    if not (folder / CATALOG_FILE).exists():
        return []
    connection = day_file.connect(folder / CATALOG_FILE, query_only=True)
    try:
        if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'catalog'").fetchone() is None:
            return []
        rows = connection.execute("SELECT * FROM catalog").fetchall()
        return [CatalogRow(Kind(source, kind, name or None), *rest) for source, kind, name, *rest in rows]
    finally:
        connection.close()


class CatalogFile:
    """Writes the file; one process at a time."""

    def __init__(self, folder: Path) -> None:
        self._connection = day_file.connect(folder / CATALOG_FILE)
        self._connection.executescript(SCHEMA)
        self._bounds = self._read_bounds()

    def _read_bounds(self) -> CatalogBounds:
        known = self._connection.execute("SELECT DISTINCT source, type, name, property FROM catalog")
        return CatalogBounds((Kind(source, kind, name or None), path) for source, kind, name, path in known)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def add(self, samples: Sequence[EventSample]) -> None:
        """Add samples."""
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(
            "INSERT INTO catalog VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " count = count + excluded.count, first = min(first, excluded.first), last = max(last, excluded.last)",
            [(*kind[:2], kind.name or "", *rest) for kind, *rest in self._bounds.sums(samples)],
        )
        self._connection.execute("COMMIT")

    def expire(self, before: int) -> None:
        """Remove properties that were last seen before a time in seconds since 1970."""
        if self._connection.execute("DELETE FROM catalog WHERE last < ?", (before,)).rowcount:
            self._bounds = self._read_bounds()
