"""Objects in S3, Google Cloud Storage, Azure Blob Storage or a folder: NDJSON or Parquet."""

import asyncio
import gzip
from collections.abc import Hashable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal
from urllib.parse import quote

import orjson
from pydantic import Field
from typing_extensions import override

from forwarders.auth import Secret
from forwarders.contract import (
    Auth,
    Contract,
    Coordinates,
    Delivered,
    Item,
    Kind,
    Limits,
    ObjectForwarder,
    Request,
    Result,
    Retry,
    Settings,
)
from forwarders.extras import extra
from forwarders.urls import Endpoint

if TYPE_CHECKING:
    from obstore.store import ObjectStore
    from pyarrow import Table

INT64: Final = range(-(2**63), 2**63)


class S3Key(Settings):
    """An access key of S3 or of a server that speaks its protocol."""

    type: Literal["s3"]
    access_key_id: str
    """The key's id."""
    secret_access_key: Secret
    """The key."""


class AzureKey(Settings):
    """The key of an Azure storage account."""

    type: Literal["azure"]
    account_name: str
    """The storage account."""
    account_key: Secret
    """Its key."""


class GoogleKey(Settings):
    """A Google service account's key."""

    type: Literal["google"]
    service_account_key: Secret
    """The content of the key file, in JSON."""


class ObjectStorageSettings(Settings):
    """Where objects go, what they look like, and where one ends and the next begins."""

    url: Annotated[str, Field(pattern=r"^(s3|gs|az|file)://[^\s?#]+$")]
    """The bucket and the beginning of the objects' names: `s3://bucket/events`, `gs://…`, `az://…`, `file:///folder`."""
    credentials: Annotated[S3Key | AzureKey | GoogleKey, Field(discriminator="type")] | None = None
    """A key as `s3`, `azure` or `google`; by default what the environment or the machine has."""
    region: str | None = None
    """The bucket's region, for S3."""
    endpoint: Endpoint | None = None
    """The address of a server that speaks S3's protocol; by default the vendor's own."""
    format: Literal["ndjson.gz", "parquet"] = "parquet"
    """What an object is: lines of JSON, compressed, or Parquet."""
    records: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """An object ends before each offset that this divides."""
    interval: Annotated[int, Field(ge=1)] | None = None
    """An object ends also where the records' time in Kafka comes into another interval of so many seconds."""


class ObjectStorage(ObjectForwarder[ObjectStorageSettings]):
    """Objects are cut by the records alone and named `TOPIC/PARTITION/FIRST-LAST`: one that is repeated is overwritten.

    So a forwarder that is killed leaves no row twice and loses none. What a killed router forwards again is another row
    with the same `delivery_id`.

    Until its object ends, a record waits on this machine's disk, in a file without a name below `delivery.spool`, and
    is not committed: the group's lag counts it. Neither the clock nor a batch size ends an object, but the next record
    does, so without traffic the last one stays open. After a restart or a rebalance it is read from Kafka again, which
    has to keep records for longer than it takes to fill an object. At most two objects are in memory at once.

    Each payload is a row, with its `delivery_id`. In Parquet a column is boolean, int64, double or string; where values
    differ in type, and where they are objects or lists, it holds JSON as text. Needs the extra `object-storage`.
    """

    contract = Contract(
        name="object_storage",
        title="Object storage (S3, GCS, Azure, folder)",
        documentation="https://developmentseed.org/obstore/",
        kind=Kind.STORAGE,
        settings=ObjectStorageSettings,
        limits=Limits(items=1_000_000, bytes=256_000_000, item_bytes=16_000_000),
        dedupe="the object's name",
        dedupe_doubt="a replay makes objects of its own",
    )
    preset_name = "rows"

    def __init__(self, settings: ObjectStorageSettings) -> None:
        super().__init__(settings)
        self._store: ObjectStore | None = None

    @override
    async def open(self) -> None:
        with extra("object-storage"):
            from obstore.store import from_url
        if self.settings.format == "parquet":
            with extra("object-storage"):
                import pyarrow.parquet  # noqa: F401
        self._store = from_url(self.settings.url, **_options(self.settings))

    @override
    def cut(self, offset: int, time: float) -> Hashable:
        interval = self.settings.interval
        return offset // self.settings.records, time // interval if interval else 0

    @override
    async def write(self, items: Sequence[Item], coordinates: Coordinates) -> Sequence[Result]:
        from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

        assert self._store is not None
        content = await asyncio.to_thread(self._encode, items)
        try:
            await self._store.put_async(self.name(coordinates), content)
        except (PermissionDeniedError, UnauthenticatedError):
            return [Auth()] * len(items)
        except (BaseError, OSError):
            return [Retry()] * len(items)
        return [Delivered()] * len(items)

    def name(self, coordinates: Coordinates) -> str:
        """Where an object lies below the URL; offsets have leading zeros, so that names sort as they do."""
        first, last = f"{coordinates.first:020}", f"{coordinates.last:020}"
        return f"{quote(coordinates.topic)}/{coordinates.partition}/{first}-{last}.{self.settings.format}"

    @override
    def preview(self, items: Sequence[Item]) -> Request:
        return Request("WRITE", f"{self.settings.url}/", body=[_row(item) for item in items])

    def _encode(self, items: Sequence[Item]) -> bytes:
        if self.settings.format == "parquet":
            return _parquet(items)
        lines = b"".join(orjson.dumps(_row(item), option=orjson.OPT_APPEND_NEWLINE) for item in items)
        return gzip.compress(lines, compresslevel=6, mtime=0)


def _options(settings: ObjectStorageSettings) -> dict[str, Any]:
    """What obstore wants to know besides the URL. Delivery tries again, so that obstore need not."""
    scheme = settings.url.partition(":")[0]
    if scheme == "file":
        return {"mkdir": True}
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
        config["endpoint"] = settings.endpoint
    return {
        "config": config,
        "client_options": {"timeout": "60s", "allow_http": (settings.endpoint or "").startswith("http://")},
        "retry_config": {"max_retries": 0, "retry_timeout": timedelta(seconds=60)},
    }


def _row(item: Item) -> dict[str, Any]:
    return {**item.payload, "delivery_id": item.id}


def _parquet(items: Sequence[Item]) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    sink = pa.BufferOutputStream()
    parquet.write_table(_table(items), sink, compression="zstd")
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _table(items: Sequence[Item]) -> "Table":
    import pyarrow as pa

    names = sorted({name for item in items for name in item.payload} - {"delivery_id"})
    columns = {"delivery_id": pa.array([item.id for item in items], pa.string())}
    for name in names:
        values = [item.payload.get(name) for item in items]
        kind = _kind(values)
        if kind == "json":
            values = [None if value is None else _json(value) for value in values]
        columns[name] = pa.array(values, _ARROW[kind])
    return pa.table(columns)


_ARROW: Final = {"bool": "bool", "int": "int64", "float": "double", "str": "string", "json": "string"}


def _kind(values: Sequence[Any]) -> str:
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int}:
        return "int" if kinds and all(value is None or value in INT64 for value in values) else "json"
    if kinds <= {int, float}:
        return "float"
    if kinds == {bool}:
        return "bool"
    return "str" if kinds == {str} else "json"


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
