"""PostgreSQL: rows of a table."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import orjson
from pydantic import Field
from typing_extensions import override

from forwarders.api.auth import Secret
from forwarders.api.contract import (
    AuthFailed,
    Category,
    Contract,
    Delivered,
    Delivery,
    Limits,
    OffsetRange,
    PermanentFailure,
    Request,
    Result,
    Retry,
    Settings,
    WriterForwarder,
    split_or_fail,
)
from forwarders.api.extras import extra

if TYPE_CHECKING:
    import psycopg
    from psycopg import AsyncConnection

ID: Final = "delivery_id"
COLUMNS: Final = 500
"""Maximum number of columns that are added. PostgreSQL's own limit is at most 1,600."""
NAME_BYTES: Final = 63
"""Maximum length of a column name. PostgreSQL truncates longer ones, so that two could become the same."""
REFUSING: Final = ("28", "42501")
"""SQLSTATEs of invalid credentials (a class) and of missing privileges."""
WAITING: Final = (
    *("08", "53", "55", "57", "58", "F0", "HV", "XX"),
    *("03", "0A", "0B", "24", "25", "26", "2D", "34", "3B", "3D", "3F", "40", "42"),
)
"""Classes of SQLSTATEs that are not about a row: connections, resources, operator intervention, transactions, and the
database's configuration. Any other error, such as a trigger's own, is about a row.

https://www.postgresql.org/docs/current/errcodes-appendix.html"""
ROW: Final = ("428C9",)
"""SQLSTATEs of these classes that are about a row: a value for a generated column."""
REFUSED: Final = re.compile(
    r"authentication failed|role .* does not exist|database .* does not exist|no pg_hba.conf entry"
)
"""Messages of invalid credentials when connecting, where the library reports only the server's text."""

TableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_$]{0,62}\.[A-Za-z_][A-Za-z0-9_$]{0,62}$")]


class PostgresSettings(Settings):
    """Settings of a table."""

    dsn: Secret
    """The database's URL: `postgresql://user:password@host:5432/database?sslmode=verify-full`."""
    table: TableName = "public.events"
    """The table, with its schema, which must exist. The table must have a unique column `delivery_id` of type text."""
    create: bool = False
    """Create the table, and a column for each new field of a payload."""


class Postgres(WriterForwarder[PostgresSettings]):
    """Each payload is a row, and its fields are columns. A row with a known `delivery_id` is not written again.

    A row that does not fit the table becomes a dead letter, for example because of a missing column, a wrong type, or a
    violated constraint. The other rows are written. New columns are numeric, boolean or text, and jsonb for all other
    types. Requires the extra `postgres`.
    """

    contract = Contract(
        name="postgres",
        title="PostgreSQL",
        documentation="https://www.postgresql.org/docs/current/sql-copy.html",
        category=Category.STORAGE,
        settings=PostgresSettings,
        limits=Limits(items=5000, bytes=16_000_000, item_bytes=16_000_000),
        dedupe_field=ID,
    )
    preset_name = "rows"

    @classmethod
    @override
    def required_modules(cls, settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        yield "psycopg", "postgres"

    def __init__(self, settings: PostgresSettings) -> None:
        super().__init__(settings)
        self._idle: list[AsyncConnection[Any]] = []
        self._columns: frozenset[str] = frozenset()

    @override
    async def open(self) -> None:
        with extra("postgres"):
            import psycopg  # noqa: F401

    @override
    async def write(self, items: Sequence[Delivery], offsets: OffsetRange) -> Sequence[Result]:
        import psycopg

        try:
            connection = self._idle.pop() if self._idle else await self._connect()
            try:
                results = await self._write(connection, items)
            except BaseException as error:
                if isinstance(error, psycopg.Error) and _is_about_a_row(error):
                    self._idle.append(connection)
                    return split_or_fail(items, "row", _described(error))
                self._columns = frozenset()  # somebody may have changed the table
                await connection.close()
                raise
        except psycopg.Error as error:
            refuses = (error.sqlstate or "").startswith(REFUSING) or REFUSED.search(str(error))
            return [AuthFailed() if refuses else Retry()] * len(items)
        self._idle.append(connection)
        return results

    @override
    async def close(self) -> None:
        while self._idle:
            await self._idle.pop().close()

    @override
    def preview(self, items: Sequence[Delivery]) -> Request:
        return Request(
            "WRITE", f"postgres:{self.settings.table}", body=[{**item.payload, ID: item.id} for item in items]
        )

    async def _connect(self) -> "AsyncConnection[Any]":
        import psycopg

        dsn = self.settings.dsn.get_secret_value()
        return await psycopg.AsyncConnection.connect(dsn, connect_timeout=10, application_name="turnout")

    async def _write(self, connection: "AsyncConnection[Any]", items: Sequence[Delivery]) -> Sequence[Result]:
        async with connection.transaction():
            if not all(_fields(item.payload) <= self._columns for item in items):
                self._columns = await self._look(connection, items)
            if not self._columns:
                return [Retry()] * len(items)
            results = [self._misfit(item.payload) or Delivered() for item in items]
            fitting = [item for item, result in zip(items, results, strict=True) if isinstance(result, Delivered)]
            if fitting:
                await self._copy(connection, fitting)
        return results

    def _misfit(self, payload: Mapping[str, Any]) -> PermanentFailure | None:
        unknown = sorted(_fields(payload) - self._columns)
        return PermanentFailure("column", f"the table has no column {unknown[0][:NAME_BYTES]!r}") if unknown else None

    async def _look(self, connection: "AsyncConnection[Any]", items: Sequence[Delivery]) -> frozenset[str]:
        """Return the table's columns after adding what the payloads need; empty if the table does not exist."""
        from psycopg import sql

        table = self._table()
        if self.settings.create:
            await connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [f"turnout {self.settings.table}"])
            await connection.execute(
                sql.SQL(
                    "CREATE TABLE IF NOT EXISTS {} ({} text PRIMARY KEY, written_at timestamptz NOT NULL DEFAULT now())"
                ).format(table, sql.Identifier(ID))
            )
        columns = await self._read_columns(connection)
        if self.settings.create:
            for name, kind in _new_columns(items, columns):
                add = sql.SQL("ALTER TABLE {} ADD COLUMN IF NOT EXISTS {} {}")
                await connection.execute(add.format(table, sql.Identifier(name), sql.SQL(kind)))
                columns |= {name}
        return columns

    async def _read_columns(self, connection: "AsyncConnection[Any]") -> frozenset[str]:
        cursor = await connection.execute(
            "SELECT column_name::text FROM information_schema.columns WHERE table_schema = %s AND table_name = %s",
            self.settings.table.split("."),
        )
        return frozenset([row[0] for row in await cursor.fetchall()])

    async def _copy(self, connection: "AsyncConnection[Any]", items: Sequence[Delivery]) -> None:
        from psycopg import sql

        names = sorted({name for item in items for name in _fields(item.payload)})
        columns = sql.SQL(", ").join(map(sql.Identifier, [ID, *names]))
        await connection.execute(
            sql.SQL("CREATE TEMP TABLE staging ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA").format(
                columns, self._table()
            )
        )
        async with (
            connection.cursor() as cursor,
            cursor.copy(sql.SQL("COPY staging ({}) FROM STDIN").format(columns)) as copy,
        ):
            for item in items:
                await copy.write_row([item.id, *(_text(item.payload.get(name)) for name in names)])
        # In a fixed order, to avoid deadlocks between writers of the same rows, such as after a rebalance.
        insert = "INSERT INTO {} ({}) SELECT {} FROM staging ORDER BY {}, ctid ON CONFLICT ({}) DO NOTHING"
        key = sql.Identifier(ID)
        await connection.execute(sql.SQL(insert).format(self._table(), columns, columns, key, key))

    def _table(self) -> Any:
        from psycopg import sql

        return sql.Identifier(*self.settings.table.split("."))


def _fields(payload: Mapping[str, Any]) -> set[str]:
    """Return the non-null fields of a payload, which need columns."""
    return {name for name, value in payload.items() if value is not None and name != ID}


def _new_columns(items: Sequence[Delivery], known: frozenset[str]) -> Iterable[tuple[str, str]]:
    """Return the columns to add for the payloads, up to the maximum number of columns."""
    kinds: dict[str, set[str]] = {}
    for item in items:
        for name, value in item.payload.items():
            if (
                name not in known
                and value is not None
                and name
                and len(name.encode()) <= NAME_BYTES
                and "\0" not in name
            ):
                kinds.setdefault(name, set()).add(_kind(value))
    room = max(0, COLUMNS - len(known))
    return [(name, min(found) if len(found) == 1 else "jsonb") for name, found in sorted(kinds.items())[:room]]


def _kind(value: Any) -> str:
    match value:
        case bool():
            return "boolean"
        case int() | float():
            return "numeric"
        case str():
            return "text"
        case _:
            return "jsonb"


def _text(value: Any) -> str | None:
    """Convert a value to text for COPY. Text stays as it is, everything else becomes JSON."""
    return value if value is None or isinstance(value, str) else orjson.dumps(value).decode()


def _is_about_a_row(error: "psycopg.Error") -> bool:
    """Return whether an error is about a row, so that it would fail again and others would not."""
    import psycopg

    state = error.sqlstate
    if state is None:  # not from the server
        return isinstance(error, psycopg.DataError)
    return state in ROW or not state.startswith((*WAITING, *REFUSING))


def _described(error: Exception) -> str:
    """Describe an error about a row without its values."""
    diagnosis = getattr(error, "diag", None)
    column = re.search(r"column (\w+)", getattr(diagnosis, "context", None) or "")
    return f"{type(error).__name__}{f', column {column[1]}' if column else ''}"
