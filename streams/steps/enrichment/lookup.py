"""Add fields from your own tables, such as a plan's price or an account's team.

Costs 1 µs per event and table.
"""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from pydantic import Field

from streams.events import Event
from streams.steps.enrichment.contract import Enrich, Enrichment, Settings
from streams.steps.enrichment.files import Files, SettingError
from streams.steps.enrichment.patches import Patch, fill

MAX_BYTES = 64 * 1024 * 1024
MAX_DEPTH = 16


class Table(Settings):
    """One table, and the object that gets its fields."""

    file: Path
    """A CSV file whose first line names the columns, or a JSON file with a list of objects or an object of objects by
    key.
    """

    key: str = Field(pattern=r"^[^.\s]+(\.[^.]+)*$")
    """Path of the key in the event: `properties.sku`."""

    column: str | None = None
    """Column of the key; by default the first of a CSV file. Leave it out for a JSON object by key."""

    into: str = Field(pattern=r"^(properties|traits|context)(\.[^.]+)*$")
    """The object that gets the fields: `properties`, `traits`, `context`, or an object in them, such as
    `properties.product`.
    """

    fields: tuple[str, ...] | None = Field(None, min_length=1)
    """Columns to add; by default all except the key."""


class LookupSettings(Settings):
    """The tables to look up."""

    tables: tuple[Table, ...]
    """The tables, in order: if two have the same field for the same object, the first wins."""


class Rows(NamedTuple):
    """The rows of a file. `by_key` is set for a JSON object by key, and `columns` for a CSV file."""

    rows: Sequence[Mapping[str, Any]]
    by_key: Mapping[str, Mapping[str, Any]] | None = None
    columns: Sequence[str] = ()


def read_rows(path: Path) -> Rows:
    """Read the rows of a CSV or JSON file; raises OSError and ValueError."""
    content = path.read_bytes()
    if len(content) > MAX_BYTES:
        raise ValueError(f"is larger than {MAX_BYTES:,} bytes")
    if path.suffix == ".json":
        return _read_json(content)
    try:
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        rows = []
        for row in reader:
            if None in row or None in row.values():
                raise ValueError(f"line {reader.line_num}: the number of values differs from the number of columns")
            rows.append(row)
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"is not CSV in UTF-8: {error}") from None
    return Rows(rows, columns=reader.fieldnames or ())


def _read_json(content: bytes) -> Rows:
    try:
        data = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error}") from None
    rows = data if isinstance(data, list) else list(data.values()) if isinstance(data, dict) else None
    if rows is None or not all(isinstance(row, dict) for row in rows):
        raise ValueError("must be a list of objects, or an object of objects")
    if any(_is_deep(row, MAX_DEPTH) for row in rows):
        raise ValueError(f"is nested more than {MAX_DEPTH} levels deep")
    return Rows(rows, data if isinstance(data, dict) else None)


def _is_deep(value: Any, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(levels <= 0 or _is_deep(each, levels - 1) for each in inner)


def make(settings: LookupSettings, files: Files) -> Enrich:
    """Fill in the fields of the row with the event's key. A number matches its text."""
    tables = [_table(table, index, files) for index, table in enumerate(settings.tables)]
    if len(tables) == 1:
        return tables[0]

    def join(event: Event) -> Patch | None:
        joined: dict[str, Any] = {}
        for table in tables:
            fill(joined, table(event) or {})
        return joined or None

    return join


def _table(table: Table, index: int, files: Files) -> Callable[[Event], Patch | None]:
    at = ("tables", index)
    rows = files.read(table.file, (*at, "file"), read_rows)
    index_of = _by_key(table, rows, at)
    place, into = tuple(table.key.split(".")), tuple(table.into.split("."))

    def look_up(event: Event) -> Patch | None:
        key: Any = event
        for name in place:
            key = key.get(name) if type(key) is dict else None
        found: Patch | None = index_of.get(key if type(key) is str else str(key)) if key is not None else None
        for name in reversed(into) if found else ():
            found = {name: found}
        return found

    return look_up


def _by_key(table: Table, rows: Rows, at: tuple[str | int, ...]) -> Mapping[str, Patch]:
    """Return the fields of each row by its key; the first row with a key wins."""
    column = table.column or next(iter(rows.columns), None)
    pairs: Iterable[tuple[str, Mapping[str, Any]]]
    if rows.by_key is None:
        if column is None:
            raise SettingError(at, "column: required for a list of objects", "name the field that has the key")
        if not any(column in row for row in rows.rows):
            raise SettingError((*at, "column"), f"no row of {table.file} has {column!r}")
        pairs = ((str(row[column]), row) for row in rows.rows if row.get(column) is not None)
    elif table.column is not None:
        raise SettingError((*at, "column"), f"{table.file} is an object by key", "remove `column`")
    else:
        pairs = rows.by_key.items()
    for number, name in enumerate(table.fields or ()):
        if not any(name in row for row in rows.rows):
            raise SettingError((*at, "fields", number), f"no row of {table.file} has {name!r}")
    found: dict[str, Patch] = {}
    for key, row in pairs:
        names = table.fields or [name for name in row if name != column]
        found.setdefault(key, {name: row[name] for name in names if row.get(name) is not None})
    return found


LOOKUP = Enrichment("lookup", LookupSettings, make)
