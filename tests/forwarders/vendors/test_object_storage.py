"""The object_storage forwarder on real files and on a server that speaks S3's protocol, read back by pyarrow."""

import asyncio
import gzip
import io
import threading
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer
from pyarrow import parquet

from forwarders.api.contract import (
    AuthFailed,
    Delivered,
    Delivery,
    OffsetRange,
    PermanentFailure,
    Result,
    Retry,
    Throttled,
)
from forwarders.vendors.object_storage.forwarder import ObjectStorage, ObjectStorageSettings
from tests.support.ports import free_port

PLACE = OffsetRange("turnout.forward.lake", 3, 20000, 29999)
NAME = "turnout.forward.lake/3/00000000000000020000-00000000000000029999"


def items(*payloads: Mapping[str, Any]) -> list[Delivery]:
    return [Delivery(f"m-{n}", payload, "track", None, "2026-01-02T03:04:05Z") for n, payload in enumerate(payloads)]


def write(
    settings: Mapping[str, Any], *batches: Sequence[Delivery], place: OffsetRange = PLACE
) -> list[Sequence[Result]]:
    async def run() -> list[Sequence[Result]]:
        forwarder = ObjectStorage(ObjectStorageSettings.model_validate(settings))
        await forwarder.open()
        return [await forwarder.write(batch, place) for batch in batches]

    return asyncio.run(run())


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The address of a server that speaks S3's protocol, with one bucket."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    client(address).create_bucket(Bucket="bucket")
    yield address
    server.stop()


def client(address: str) -> Any:
    keys = {"aws_access_key_id": "k-1", "aws_secret_access_key": "s3cret"}
    return boto3.client("s3", endpoint_url=address, region_name="us-east-1", **keys)


def to_s3(address: str, prefix: str, **more: Any) -> dict[str, Any]:
    credentials = {"type": "s3", "access_key_id": "k-1", "secret_access_key": "s3cret"}
    url = f"s3://bucket/{prefix}"
    return {"url": url, "endpoint": address, "region": "us-east-1", "credentials": credentials, **more}


def test_parquet_columns(tmp_path: Path) -> None:
    """A column has its values' type; one of several types, of objects or of lists, holds JSON as text."""
    payloads = [
        {"b": True, "i": 2**40, "f": 1, "s": "é", "mixed": 1, "o": {"n": [1, None]}, "null": None, "big": 2**63},
        {"b": None, "i": 2, "f": 2.5, "mixed": "x"},
    ]
    assert write({"url": tmp_path.as_uri()}, items(*payloads)) == [[Delivered()] * 2]
    table = parquet.read_table(tmp_path / f"{NAME}.parquet")
    assert {field.name: str(field.type) for field in table.schema} == {
        "delivery_id": "string",
        "b": "bool",
        "big": "string",
        "f": "double",
        "i": "int64",
        "mixed": "string",
        "null": "string",
        "o": "string",
        "s": "string",
    }
    first, second = table.to_pylist()
    assert first == {
        "delivery_id": "m-0", "b": True, "big": str(2**63), "f": 1.0, "i": 2**40, "mixed": "1", "null": None,
        "o": '{"n":[1,null]}', "s": "é",
    }  # fmt: skip
    assert (second["delivery_id"], second["mixed"], second["f"], second["o"]) == ("m-1", '"x"', 2.5, None)


TEXT = st.text(st.characters(codec="utf-8"), max_size=3)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)
PAYLOADS = st.lists(st.dictionaries(st.sampled_from("abc") | TEXT, JSON, max_size=4), min_size=1, max_size=4)


@given(PAYLOADS)
def test_any_payload_is_written(tmp_path_factory: pytest.TempPathFactory, payloads: list[dict[str, Any]]) -> None:
    """Whatever JSON payloads hold, all rows go into the object, in their order and in either format."""
    folder = tmp_path_factory.mktemp("any")
    for kind in ("parquet", "ndjson.gz"):
        assert write({"url": folder.as_uri(), "format": kind}, items(*payloads)) == [[Delivered()] * len(payloads)]
    ids = parquet.read_table(folder / f"{NAME}.parquet").column("delivery_id").to_pylist()
    lines = [orjson.loads(line) for line in gzip.decompress((folder / f"{NAME}.ndjson.gz").read_bytes()).splitlines()]
    assert ids == [line["delivery_id"] for line in lines] == [f"m-{n}" for n in range(len(payloads))]
    assert [
        {**payload, "delivery_id": line["delivery_id"]} for payload, line in zip(payloads, lines, strict=True)
    ] == lines


@pytest.mark.parametrize("kind", ["parquet", "ndjson.gz"])
def test_repeat_overwrites_itself(s3: str, kind: str) -> None:
    """The same records again are the same object, to the byte."""
    prefix = uuid4().hex
    batch = items({"a": 1}, {"a": 2, "b": "x"})
    write(to_s3(s3, prefix, format=kind), batch)
    first = client(s3).get_object(Bucket="bucket", Key=f"{prefix}/{NAME}.{kind}")["Body"].read()
    write(to_s3(s3, prefix, format=kind), batch)
    listed = client(s3).list_objects_v2(Bucket="bucket", Prefix=prefix)["Contents"]
    assert [entry["Key"] for entry in listed] == [f"{prefix}/{NAME}.{kind}"]
    assert client(s3).get_object(Bucket="bucket", Key=listed[0]["Key"])["Body"].read() == first


def test_read_back_from_s3(s3: str) -> None:
    """The objects in the bucket are Parquet that other readers accept."""
    prefix = uuid4().hex
    write(to_s3(s3, prefix), items(*({"n": n} for n in range(1000))))
    content = client(s3).get_object(Bucket="bucket", Key=f"{prefix}/{NAME}.parquet")["Body"].read()
    assert parquet.read_table(io.BytesIO(content)).column("n").to_pylist() == list(range(1000))


def test_bucket_that_is_not_there(s3: str) -> None:
    """A bucket that is not there may be made: it is tried again."""
    settings = {**to_s3(s3, "x"), "url": "s3://no-such-bucket/x"}
    assert write(settings, items({"a": 1})) == [[Retry()]]


def test_nobody_there() -> None:
    """A server that does not answer costs no delivery."""
    assert write(to_s3(f"http://127.0.0.1:{free_port()}", "x"), items({"a": 1})) == [[Retry()]]


@pytest.mark.parametrize(
    ("status", "result"),
    [
        (400, PermanentFailure("status_400")),
        (413, PermanentFailure("status_413")),
        (422, PermanentFailure("status_422")),
        (401, AuthFailed()),
        (403, AuthFailed()),
        (429, Throttled()),
        *((status, Retry()) for status in (301, 404, 408, 409, 412, 500, 503)),
    ],
)
def test_a_status_that_is_about_the_object_refuses_it(status: int, result: Result) -> None:
    """Other statuses below 500 may be over for the same object: a missing bucket, a conflict, a time-out."""

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing to standard error."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            address = f"http://127.0.0.1:{server.server_port}"
            assert write(to_s3(address, "x", format="ndjson.gz"), items({"a": 1})) == [[result]]
        finally:
            server.shutdown()
            thread.join()


def test_a_name_that_a_folder_cannot_have_is_refused(tmp_path: Path) -> None:
    """A missing folder, a full disk and the like are waited for; a name too long is not."""
    place = OffsetRange("t" * 300, 0, 0, 1)
    ((result,),) = write({"url": tmp_path.as_uri()}, items({"a": 1}), place=place)
    assert isinstance(result, PermanentFailure)
    (tmp_path / "file").write_text("")
    assert write({"url": (tmp_path / "file").as_uri()}, items({"a": 1})) == [[Retry()]]


def test_cut_by_offset() -> None:
    """An object ends before each multiple of `records`, whatever the time."""
    forwarder = ObjectStorage(ObjectStorageSettings(url="s3://bucket", records=100))
    cuts = [forwarder.rotation_key(offset, 7.0 * offset) for offset in (0, 99, 100, 199, 200)]
    assert [cuts[n] == cuts[n + 1] for n in range(4)] == [True, False, True, False]


def test_cut_by_time() -> None:
    """With an interval, an object also ends when the records' time enters another interval."""
    forwarder = ObjectStorage(ObjectStorageSettings(url="s3://bucket", interval=3600))
    cuts = [forwarder.rotation_key(5, time) for time in (7200.0, 10799.999, 10800.0, 14399.0)]
    assert [cuts[n] == cuts[n + 1] for n in range(3)] == [True, False, True]
