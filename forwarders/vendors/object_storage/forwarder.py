"""Object storage: NDJSON or Parquet in S3, Google Cloud Storage, Azure Blob Storage or a folder."""

import asyncio
import errno
import gzip
import re
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self
from urllib.parse import quote, unquote

import orjson
from pydantic import Field, model_validator
from typing_extensions import override

from forwarders.api.auth import Secret
from forwarders.api.contract import (
    AuthFailed,
    Category,
    Contract,
    Delivered,
    Delivery,
    Limits,
    ObjectForwarder,
    OffsetRange,
    PermanentFailure,
    Request,
    Retry,
    Settings,
    Throttled,
)
from forwarders.api.durable import replace
from forwarders.api.extras import extra
from forwarders.api.urls import Endpoint

if TYPE_CHECKING:
    from obstore.store import ObjectStore
    from pyarrow import Array, Table

ID: Final = "delivery_id"
NESTED: Final = frozenset({dict, list})
EXACT: Final = range(-(2**53), 2**53 + 1)
"""Integers that a double can represent exactly."""

STATUS: Final = re.compile(r"Server returned non-2xx status code: (\d{3})")
UNCERTAIN_STATUSES: Final = frozenset({404, 408, 409, 412, 425})
"""Statuses below 500 that do not refuse the object: the bucket is missing, another request is in progress, or time ran
out."""

REFUSED_ERRNOS: Final = frozenset({errno.EFBIG, errno.ENAMETOOLONG, errno.EISDIR})
"""Errors of a folder that concern one object: it is too large, or its name cannot be used."""

INT64: Final = range(-(2**63), 2**63)


class S3Key(Settings):
    """An access key of S3 or of a compatible server."""

    type: Literal["s3"]
    access_key_id: str
    """The access key's ID."""
    secret_access_key: Secret
    """The secret access key."""


class AzureKey(Settings):
    """The key of an Azure storage account."""

    type: Literal["azure"]
    account_name: str
    """The storage account."""
    account_key: Secret
    """The storage account's key."""


class GoogleKey(Settings):
    """A Google service account's key."""

    type: Literal["google"]
    service_account_key: Secret
    """The content of the JSON key file."""


class ObjectStorageSettings(Settings):
    """Settings of the objects: their location, format and size."""

    url: Annotated[str, Field(pattern=r"^(s3|gs|az|file)://[^\s?#]+$")]
    """The bucket and the prefix of the objects' names: `s3://bucket/events`, `gs://…`, `az://…`, `file:///folder`."""
    credentials: Annotated[S3Key | AzureKey | GoogleKey, Field(discriminator="type")] | None = None
    """A key of type `s3`, `azure` or `google`; by default the credentials of the environment or the machine."""
    region: str | None = None
    """The bucket's region, for S3."""
    endpoint: Endpoint | None = None
    """The address of another server with the same protocol; by default the vendor's."""
    format: Literal["ndjson.gz", "parquet"] = "parquet"
    """The format of an object: compressed lines of JSON, or Parquet."""
    records: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """Number of offsets per object. Each object ends before a multiple of it."""
    interval: Annotated[int, Field(ge=1)] | None = None
    """Also begin a new object when the records' time in Kafka enters another interval of this many seconds."""

    @property
    def scheme(self) -> str:
        """Return the URL's scheme: s3, gs, az or file."""
        return self.url.partition(":")[0]

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        """Reject settings that do not apply to the URL's scheme."""
        if self.credentials is not None and not isinstance(self.credentials, KEYS.get(self.scheme, ())):
            raise ValueError(f"credentials of type {self.credentials.type} cannot be used with a {self.scheme}://… URL")
        if self.region is not None and self.scheme != "s3":
            raise ValueError("region is only for s3://… URLs")
        if self.endpoint is not None and self.scheme == "file":
            raise ValueError("endpoint is only for s3://…, gs://… and az://… URLs")
        return self


KEYS: Final = {"s3": S3Key, "az": AzureKey, "gs": GoogleKey}


class ObjectStorage(ObjectForwarder[ObjectStorageSettings]):
    """Objects depend only on records and are named `TOPIC/PARTITION/FIRST-LAST`, so a retry overwrites its object.

    A crash of the forwarder therefore neither duplicates nor loses rows. If the router crashes and forwards an event
    again, there is a second row with the same `delivery_id`.

    Until its object ends, a record is kept in an unnamed file in `delivery.spool` on the local disk. Its offset is not
    committed, so it counts as lag. An object ends when the next record arrives, not by time: without traffic the last
    object stays open. After a restart or a rebalance its records are read from Kafka again, so Kafka must retain
    records for longer than it takes to fill an object. At most two objects are in memory at a time.

    Each payload is a row with its `delivery_id`. A Parquet column is boolean, int64, double or string. Columns with
    objects, lists or mixed types contain JSON as text. Requires the extra `object-storage`.
    """

    contract = Contract(
        name="object_storage",
        title="Object storage (S3, GCS, Azure, folder)",
        aliases=(
            "Amazon S3",
            "AWS S3",
            "S3",
            "Google Cloud Storage",
            "GCS",
            "Azure Blob Storage",
            "Azure Blob",
        ),
        documentation="https://developmentseed.org/obstore/",
        category=Category.STORAGE,
        settings=ObjectStorageSettings,
        limits=Limits(items=1_000_000, bytes=256_000_000, item_bytes=16_000_000),
        dedupe_field="the object's name",
        dedupe_caveat="a replay writes new objects",
    )
    preset_name = "rows"

    @classmethod
    @override
    def required_modules(cls, settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        if not str(settings.get("url")).startswith("file:"):
            yield "obstore", "object-storage"
        if settings.get("format", "parquet") == "parquet":
            yield "pyarrow", "object-storage"

    def __init__(self, settings: ObjectStorageSettings) -> None:
        super().__init__(settings)
        self._store: ObjectStore | None = None
        self._folder = Path(unquote(settings.url.removeprefix("file://"))) if settings.scheme == "file" else None

    @override
    async def open(self) -> None:
        if self._folder is None:
            with extra("object-storage"):
                from obstore.store import from_url
            self._store = from_url(self.settings.url, **_options(self.settings))
        if self.settings.format == "parquet":
            with extra("object-storage"):
                import pyarrow.parquet  # noqa: F401

    @override
    def rotation_key(self, offset: int, time: float) -> Hashable:
        interval = self.settings.interval
        return offset // self.settings.records, time // interval if interval else 0

    @override
    def encode(self, items: Iterable[Delivery]) -> bytes:
        if self.settings.format == "parquet":
            return _parquet(items)
        lines = b"".join(orjson.dumps(_row(item), option=orjson.OPT_APPEND_NEWLINE) for item in items)
        return gzip.compress(lines, compresslevel=6, mtime=0)

    @override
    async def put(
        self, content: bytes, offsets: OffsetRange
    ) -> Delivered | Retry | Throttled | AuthFailed | PermanentFailure:
        name = self.name(offsets)
        if self._folder is not None:
            try:
                await asyncio.to_thread(replace, self._folder / name, content)
            except OSError as error:
                return PermanentFailure(f"errno_{error.errno}") if error.errno in REFUSED_ERRNOS else Retry()
            return Delivered()
        from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

        assert self._store is not None
        try:
            await self._store.put_async(name, content)
        except (PermissionDeniedError, UnauthenticatedError):
            return AuthFailed()
        except (BaseError, OSError) as error:
            return _result(error)
        return Delivered()

    def name(self, offsets: OffsetRange) -> str:
        """Return an object's name below the URL. Offsets have leading zeros, so that names sort in the same order."""
        first, last = f"{offsets.first:020}", f"{offsets.last:020}"
        return f"{quote(offsets.topic)}/{offsets.partition}/{first}-{last}.{self.settings.format}"

    @override
    def preview(self, items: Sequence[Delivery]) -> Request:
        return Request("WRITE", f"{self.settings.url}/", body=[_row(item) for item in items])


def _options(settings: ObjectStorageSettings) -> dict[str, Any]:
    """Return obstore's options. Its own retries are off, because delivery retries."""
    config: dict[str, Any] = {}
    match settings.credentials:
        case S3Key(access_key_id=name, secret_access_key=key):
            config |= {"access_key_id": name, "secret_access_key": key.get_secret_value()}
        case AzureKey(account_name=name, account_key=key):
            config |= {"account_name": name, "account_key": key.get_secret_value()}
        case GoogleKey(service_account_key=key):
            config |= {"service_account_key": key.get_secret_value()}
    if settings.region:
        config["region"] = settings.region
    if settings.endpoint:
        config["base_url" if settings.scheme == "gs" else "endpoint"] = settings.endpoint
    return {
        "config": config,
        "client_options": {"timeout": "60s", "allow_http": (settings.endpoint or "").startswith("http://")},
        "retry_config": {"max_retries": 0, "retry_timeout": timedelta(seconds=60)},
    }


def _result(error: Exception) -> Retry | Throttled | PermanentFailure:
    """Return the result that the store's status implies. obstore has it only in the error's text."""
    found = STATUS.search(str(error))
    status = int(found[1]) if found else None
    if status == 429:
        return Throttled()
    if status is None or not 400 <= status < 500 or status in UNCERTAIN_STATUSES:
        return Retry()
    return PermanentFailure(f"status_{status}")


def _row(item: Delivery) -> dict[str, Any]:
    return {**item.payload, ID: item.id}


def _parquet(items: Iterable[Delivery]) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    sink = pa.BufferOutputStream()
    parquet.write_table(_table(items), sink, compression="zstd")
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _table(items: Iterable[Delivery]) -> "Table":
    import pyarrow as pa

    ids: list[str] = []
    columns: dict[str, list[Any]] = {}
    for row, item in enumerate(items):
        ids.append(item.id)
        for name, value in item.payload.items():
            column = columns.get(name)
            if column is None:
                column = columns[name] = []
            if len(column) < row:
                column += [None] * (row - len(column))
            # JSON values are bytes, which distinguishes them from text.
            column.append(orjson.dumps(value) if type(value) in NESTED else value)
    columns.pop(ID, None)
    arrays = {ID: pa.array(ids, pa.string())}
    for name, column in sorted(columns.items()):
        arrays[name] = _array(column + [None] * (len(ids) - len(column)))
    return pa.table(arrays)


def _array(values: list[Any]) -> "Array":
    """Build a column of its values' common type, otherwise of JSON."""
    import pyarrow as pa

    match set(map(type, values)) - {NoneType}:
        case kinds if kinds == {bool}:
            return pa.array(values, pa.bool_())
        case kinds if kinds == {int} and all(value is None or value in INT64 for value in values):
            return pa.array(values, pa.int64())
        case kinds if kinds == {float}:
            return pa.array(values, pa.float64())
        case kinds if kinds == {int, float} and all(type(value) is not int or value in EXACT for value in values):
            return pa.array([None if value is None else float(value) for value in values], pa.float64())
        case kinds if kinds <= {str} or kinds == {bytes}:
            return pa.array(values, pa.string())
    texts = [value if value is None or isinstance(value, bytes) else orjson.dumps(value) for value in values]
    return pa.array(texts, pa.string())
