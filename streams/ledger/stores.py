"""Open the configured store."""

from pathlib import Path

from streams.ledger.settings import LedgerSettings
from streams.ledger.sqlite_store import SqliteReader, SqliteStore
from streams.ledger.store import Reader, Store


def open_store(settings: LedgerSettings, folder: Path, retention_days: int) -> Store:
    """Open the store for writing; `folder` is that of the files. Raises StoreError or StoreInUseError."""
    if settings.clickhouse is not None and settings.store == "clickhouse":
        from streams.ledger.clickhouse_store import ClickHouseStore

        return ClickHouseStore(settings.clickhouse, settings.key, retention_days)
    return SqliteStore(folder, settings.key, retention_days)


def open_reader(settings: LedgerSettings, folder: Path) -> Reader:
    """Open the store for reading; `folder` is that of the files. Raises StoreError."""
    if settings.clickhouse is not None and settings.store == "clickhouse":
        from streams.ledger.clickhouse_store import ClickHouseReader

        return ClickHouseReader(settings.clickhouse, settings.key)
    return SqliteReader(folder, settings.key)
