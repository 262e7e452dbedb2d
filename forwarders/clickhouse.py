"""A table of a ClickHouse server, over HTTP."""

import hashlib
from collections.abc import Sequence
from typing import Annotated, Final, Literal
from urllib.parse import urlencode

import orjson
from pydantic import Field
from typing_extensions import override

from forwarders.auth import HeaderSecret, HeaderValue
from forwarders.contract import (
    AuthFailed,
    BatchFailure,
    Category,
    Contract,
    Delivery,
    HttpForwarder,
    Limits,
    Request,
    Response,
    Result,
    Retry,
    Settings,
    split_or_fail,
)
from forwarders.urls import Endpoint

REFUSING: Final = frozenset({192, 193, 194, 195, 497, 516})
"""Unknown user, wrong password, password wanted, address not allowed, access denied, authentication failed."""
ROWS: Final = frozenset(
    {6, 25, 26, 27, 38, 41, 53, 69, 70, 72, 117, 130, 131, 321, 349, 376, 441, 467, 469, 675, 676, 691}
)
"""What is wrong with a row: it cannot be parsed, has an unknown field, is out of range or breaks a constraint."""

SqlName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=200)]


class ClickHouseSettings(Settings):
    """Which table, and how to get in."""

    url: Endpoint
    """The server's HTTP interface, such as `https://clickhouse.example:8443`."""
    user: HeaderValue = "default"
    """The user."""
    password: HeaderSecret | None = None
    """The user's password."""
    database: SqlName = "default"
    """The database of the table."""
    table: SqlName = "events"
    """The table. It needs a column `delivery_id` of type String."""
    unknown_fields: Literal["refuse", "skip"] = "refuse"
    """What becomes of a field without a column: `refuse` the row, or `skip` the field."""
    async_insert: bool = False
    """Let the server gather inserts into larger ones, and answer once they are written: for small batches."""


class ClickHouse(HttpForwarder[ClickHouseSettings]):
    """One payload a row. ClickHouse wants few and large inserts: give the integration a linger of a second or more.

    The same batch inserted again within the table's deduplication window changes nothing. Batches that are cut
    otherwise after a crash do: a ReplacingMergeTree ordered by `delivery_id` holds each once, after its merges.

    ClickHouse looks at no range: a whole number that its column cannot hold goes in as another one, and null in a
    column that is not Nullable as the column's default. Choose columns wide enough, or give the table constraints.
    """

    contract = Contract(
        name="clickhouse",
        title="ClickHouse",
        documentation="https://clickhouse.com/docs/interfaces/http",
        category=Category.STORAGE,
        settings=ClickHouseSettings,
        limits=Limits(items=50_000, bytes=32_000_000, item_bytes=16_000_000),
        dedupe_field="delivery_id",
        dedupe_caveat="only a ReplacingMergeTree ordered by it drops them",
        batch_failure=BatchFailure.WHOLE,
    )
    preset_name = "rows"

    @override
    def build_request(self, items: Sequence[Delivery]) -> Request:
        settings = self.settings
        query = {
            "query": f"INSERT INTO {settings.database}.{settings.table} FORMAT JSONEachRow",
            "insert_deduplicate": 1,
            "insert_deduplication_token": _token(items),
            "input_format_skip_unknown_fields": int(settings.unknown_fields == "skip"),
            "date_time_input_format": "best_effort",
            "wait_end_of_query": 1,
        }
        if settings.async_insert:
            query |= {"async_insert": 1, "wait_for_async_insert": 1, "async_insert_deduplicate": 1}
        headers = {"X-ClickHouse-User": settings.user, "Content-Type": "application/x-ndjson"}
        if settings.password:
            headers["X-ClickHouse-Key"] = settings.password.get_secret_value()
        body = b"".join(
            orjson.dumps({**item.payload, "delivery_id": item.id}, option=orjson.OPT_APPEND_NEWLINE) for item in items
        )
        return Request("POST", f"{settings.url}/?{urlencode(query)}", headers, body)

    @override
    def parse_response(self, response: Response, items: Sequence[Delivery]) -> Sequence[Result]:
        """The exception's code says more than the status; what is wrong with the table may be mended, and waits."""
        text = response.headers.get("x-clickhouse-exception-code", "")
        code = int(text) if text.isdecimal() and len(text) < 6 else 0
        if not code:
            return super().parse_response(response, items)
        if code in ROWS:
            return split_or_fail(items, f"code_{code}")
        return [AuthFailed() if code in REFUSING else Retry(response.retry_after)] * len(items)


def _token(items: Sequence[Delivery]) -> str:
    """The same for the same deliveries in the same order."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(item.id.encode("utf-8", "replace") + b"\n")
    return digest.hexdigest()
