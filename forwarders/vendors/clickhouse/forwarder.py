"""ClickHouse: rows of a table, over HTTP."""

import hashlib
from collections.abc import Sequence
from typing import Annotated, Final, Literal
from urllib.parse import urlencode

import orjson
from pydantic import Field
from typing_extensions import override

from forwarders.api.auth import HeaderSecret, HeaderValue
from forwarders.api.contract import (
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
from forwarders.api.urls import Endpoint

REFUSING: Final = frozenset({192, 193, 194, 195, 497, 516})
"""Codes of rejected credentials: unknown user, wrong or missing password, forbidden address, no access."""
ROWS: Final = frozenset(
    {6, 25, 26, 27, 38, 41, 53, 69, 70, 72, 117, 130, 131, 321, 349, 376, 441, 467, 469, 675, 676, 691}
)
"""Codes of invalid rows: not parseable, unknown field, out of range, violated constraint."""

SqlName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=200)]


class ClickHouseSettings(Settings):
    """Settings of a table."""

    url: Endpoint
    """The server's HTTP interface, such as `https://clickhouse.example:8443`."""
    user: HeaderValue = "default"
    """The user."""
    password: HeaderSecret | None = None
    """The user's password."""
    database: SqlName = "default"
    """The database of the table."""
    table: SqlName = "events"
    """The table. It must have a column `delivery_id` of type String."""
    unknown_fields: Literal["refuse", "skip"] = "refuse"
    """How to treat a field without a column: `refuse` the row or `skip` the field."""
    async_insert: bool = False
    """Let the server combine small inserts, and wait until they are written."""


class ClickHouse(HttpForwarder[ClickHouseSettings]):
    """Each payload is a row. ClickHouse works best with few, large inserts: set `delivery.linger` to a second or more.

    ClickHouse ignores a batch that is inserted again within the table's deduplication window. After a crash, deliveries
    may be batched differently and be inserted twice. A ReplacingMergeTree ordered by `delivery_id` removes these
    duplicates when it merges.

    ClickHouse does not check ranges: an integer that is too large for its column overflows, and null in a column that
    is not Nullable becomes the column's default. Choose columns that are wide enough, or add constraints to the table.
    """

    contract = Contract(
        name="clickhouse",
        title="ClickHouse",
        documentation="https://clickhouse.com/docs/interfaces/http",
        category=Category.STORAGE,
        settings=ClickHouseSettings,
        limits=Limits(items=50_000, bytes=32_000_000, item_bytes=16_000_000),
        dedupe_field="delivery_id",
        dedupe_caveat="only a ReplacingMergeTree ordered by it removes duplicates",
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
        """Map the exception's code to results. Errors about the table are retried, since the table can be fixed."""
        text = response.headers.get("x-clickhouse-exception-code", "")
        code = int(text) if text.isdecimal() and len(text) < 6 else 0
        if not code:
            return super().parse_response(response, items)
        if code in ROWS:
            return split_or_fail(items, f"code_{code}")
        return [AuthFailed() if code in REFUSING else Retry(response.retry_after)] * len(items)


def _token(items: Sequence[Delivery]) -> str:
    """Return a token that is the same for the same deliveries in the same order."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(item.id.encode("utf-8", "replace") + b"\n")
    return digest.hexdigest()
