"""The object_storage forwarder on Azurite, Microsoft's own server that speaks Azure Blob Storage's protocol."""

import asyncio
import base64
import hashlib
import hmac
import io
import os
import subprocess
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen
from uuid import uuid4

import pytest
from obstore.store import AzureStore
from pyarrow import parquet

from forwarders.api.contract import (
    AuthFailed,
    Delivered,
    Delivery,
    OffsetRange,
    Result,
    Retry,
)
from forwarders.vendors.object_storage.forwarder import ObjectStorage, ObjectStorageSettings
from tests.support import npm
from tests.support.ports import free_port

HERE = Path(__file__).parent / "azurite"
ACCOUNT, KEY = "account", base64.b64encode(b"k" * 32).decode()
PLACE = OffsetRange("turnout.forward.lake", 3, 0, 99)
NAME = "turnout.forward.lake/3/00000000000000000000-00000000000000000099.parquet"


@pytest.fixture(scope="module")
def azure() -> Iterator[str]:
    """The address of an Azurite with the container `lake`; skips without npm, which CI must have."""
    found = npm.command(HERE / "blobs.js", HERE)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("npm is missing")
        pytest.skip("Azurite needs node and npm")
    command, environment = found
    port = free_port()
    options = ["--blobPort", str(port), "--inMemoryPersistence", "--skipApiVersionCheck", "--silent"]
    with subprocess.Popen(
        [*command, *options], env=environment | {"AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"}, stdout=subprocess.DEVNULL
    ) as process:
        try:
            address = f"http://127.0.0.1:{port}/{ACCOUNT}"
            make_container(address, "lake")
            yield address
        finally:
            process.kill()


def make_container(address: str, name: str) -> None:
    """Ask for a container until the server answers: no library here makes one, so the request is signed by hand."""
    deadline = time.monotonic() + 120
    while True:
        headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
        lines = ["PUT", *[""] * 11, *(f"{key}:{value}" for key, value in headers.items())]
        signed = "\n".join([*lines, f"/{ACCOUNT}/{ACCOUNT}/{name}", "restype:container"])
        digest = hmac.new(base64.b64decode(KEY), signed.encode(), hashlib.sha256).digest()
        headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}"
        try:
            with urlopen(Request(f"{address}/{name}?restype=container", method="PUT", headers=headers)):
                return
        except URLError as error:
            if not isinstance(error.reason, OSError) or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def write(address: str, prefix: str, times: int = 1, container: str = "lake", key: str = KEY) -> list[Result]:
    """Return the results of a number of writes of the same hundred items."""
    settings = {
        "url": f"az://{container}/{prefix}",
        "endpoint": address,
        "credentials": {"type": "azure", "account_name": ACCOUNT, "account_key": key},
    }
    items = [Delivery(f"m-{n}", {"n": n}, "track", None, "2026-01-02T03:04:05Z") for n in range(100)]

    async def run() -> list[Result]:
        forwarder = ObjectStorage(ObjectStorageSettings.model_validate(settings))
        await forwarder.open()
        return [(await forwarder.write(items, PLACE))[0] for _ in range(times)]

    return asyncio.run(run())


def test_repeat_overwrites_itself(azure: str) -> None:
    """The same records twice are one object, which others read."""
    prefix = uuid4().hex
    assert write(azure, prefix, times=2) == [Delivered()] * 2
    options: Any = {"allow_http": True}
    store = AzureStore("lake", endpoint=azure, account_name=ACCOUNT, account_key=KEY, client_options=options)
    assert [entry["path"] for entry in store.list(prefix).collect()] == [f"{prefix}/{NAME}"]
    content = store.get(f"{prefix}/{NAME}").bytes()
    assert parquet.read_table(io.BytesIO(content)).column("n").to_pylist() == list(range(100))


def test_container_that_is_not_there(azure: str) -> None:
    """A container that is not there may be made: it is tried again."""
    assert write(azure, "x", container="nowhere") == [Retry()]


def test_wrong_key(azure: str) -> None:
    """A key that the account does not have is a matter of credentials."""
    assert write(azure, "x", key=base64.b64encode(b"other").decode()) == [AuthFailed()]
