"""The settings decide which store is opened."""

import sys
from pathlib import Path

import pytest

from streams.ledger.settings import ClickHouseAddress, LedgerSettings
from streams.ledger.sqlite_store import SqliteReader, SqliteStore
from streams.ledger.store import StoreError
from streams.ledger.stores import open_reader, open_store

AWAY = ClickHouseAddress(url="http://127.0.0.1:1/turnout")


def test_files_are_the_default(tmp_path: Path):
    """Without settings the ledger is in files, also if ClickHouse is described."""
    store = open_store(LedgerSettings(clickhouse=AWAY), tmp_path, 7)
    reader = open_reader(LedgerSettings(), tmp_path)
    assert isinstance(store, SqliteStore)
    assert isinstance(reader, SqliteReader)
    store.close()
    reader.close()


def test_clickhouse_needs_an_address_without_a_password():
    """A missing address and one with a password are settings errors."""
    with pytest.raises(ValueError, match="needs `clickhouse"):
        LedgerSettings(store="clickhouse")
    for wrong in ("http://me:secret@clickhouse/turnout", "clickhouse:8123", "http://clickhouse/a/b"):
        with pytest.raises(ValueError, match="url"):
            ClickHouseAddress(url=wrong)


def test_a_clickhouse_that_does_not_answer_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """So is a missing package, with the command that installs it."""
    settings = LedgerSettings(store="clickhouse", clickhouse=AWAY)
    for open_ in (lambda: open_store(settings, tmp_path, 7), lambda: open_reader(settings, tmp_path)):
        with pytest.raises(StoreError, match=r"^ClickHouse at http://127.0.0.1:1/turnout fails: [A-Za-z]+$"):
            open_()
    monkeypatch.setitem(sys.modules, "clickhouse_connect", None)
    with pytest.raises(StoreError, match=r"pip install 'turnout\[clickhouse\]'"):
        open_store(settings, tmp_path, 7)
