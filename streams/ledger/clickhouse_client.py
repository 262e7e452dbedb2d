"""Run statements on ClickHouse, with rows as JSON."""

from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from streams.ledger.settings import ClickHouseAddress
from streams.ledger.store import StoreError

_SELECT = "SETTINGS output_format_json_quote_64bit_integers = 0"


class ClickHouseClient:
    """Talks to one database; use it in one thread at a time. Raises StoreError if ClickHouse fails.

    Args:
        settings: The address and user.

    """

    def __init__(self, settings: ClickHouseAddress) -> None:
        try:
            import clickhouse_connect
            from clickhouse_connect.driver.exceptions import ClickHouseError
        except ImportError as error:
            raise StoreError("the store `clickhouse` needs more packages: pip install 'turnout[clickhouse]'") from error
        self._url, self._errors = settings.url, (ClickHouseError, OSError)
        try:
            self._client = clickhouse_connect.get_client(
                dsn=settings.url,
                username=settings.user,
                password=settings.password.get_secret_value(),
                compress=False,
                autogenerate_session_id=False,
            )
        except self._errors as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def run(self, statement: str) -> None:
        """Run a statement that returns no rows."""
        try:
            self._client.command(statement)
        except self._errors as error:
            raise self._failed(error) from error

    def rows(self, select: str, **parameters: object) -> list[list[Any]]:
        """Return the rows of a SELECT; `%(name)s` in it is the parameter of that name."""
        try:
            answer = self._client.raw_query(f"{select} {_SELECT}", parameters=parameters, fmt="JSONCompactEachRow")
        except self._errors as error:
            raise self._failed(error) from error
        return [orjson.loads(line) for line in answer.splitlines()]

    def insert(self, table: str, columns: str, rows: Iterable[Sequence[Any]], token: str | None = None) -> None:
        """Insert rows; ClickHouse ignores them if it has seen the token for this table."""
        data = b"\n".join(orjson.dumps(row) for row in rows)
        if not data:
            return
        deduplication = f", insert_deduplicate = 1, insert_deduplication_token = '{token}'" if token else ""
        statement = f"INSERT INTO {table} ({columns}) SETTINGS async_insert = 0{deduplication}"  # names from the code
        try:
            self._client.command(f"{statement} FORMAT JSONCompactEachRow", data=data)
        except self._errors as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> StoreError:
        # The message of a failed insert may quote the data.
        code = str(error).partition("Code: ")[2].partition(".")[0]
        return StoreError(f"ClickHouse at {self._url} fails: {f'code {code}' if code else type(error).__name__}")
