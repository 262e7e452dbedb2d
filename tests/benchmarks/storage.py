"""Rows per CPU-second into objects on local disk: an order with everything, 20,000 of them in an object.

Run: python -m tests.benchmarks.storage
"""

import asyncio
import tempfile
import time
from pathlib import Path
from statistics import median

import orjson

from forwarders.contract import Coordinates, Delivered, Item
from forwarders.object_storage import ObjectStorage, ObjectStorageSettings
from tests.forwarders import golden

ROWS = 20_000
AT_LEAST = 40_000
"""Rows per CPU-second that Parquet has to reach."""


def items() -> list[Item]:
    """Orders that differ in their ids, each with objects of its own."""
    (case,) = (case for case in golden.of("object_storage").cases if case.name == "order-completed-everything")
    payload = orjson.dumps(case.written["payload"]).decode()
    return [
        Item(f"m-{n}", orjson.loads(payload.replace("O-1001", f"O-{n}")), "track", None, case.event["timestamp"])
        for n in range(ROWS)
    ]


async def rate(folder: Path, kind: str, batch: list[Item]) -> float:
    """Rows per CPU-second of one object."""
    forwarder = ObjectStorage(ObjectStorageSettings.model_validate({"url": folder.as_uri(), "format": kind}))
    await forwarder.open()
    start = time.process_time()
    results = await forwarder.write(batch, Coordinates("turnout.forward.lake", 0, 0, ROWS - 1))
    used = time.process_time() - start
    assert results == [Delivered()] * ROWS
    return ROWS / used


def main() -> None:
    """Print the figures."""
    batch = items()
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("parquet", "ndjson.gz"):
            rows = median(asyncio.run(rate(Path(folder), kind, batch)) for _ in range(5))
            wanted = f" (at least {AT_LEAST:,} wanted)" if kind == "parquet" else ""
            print(f"{kind}: {rows:,.0f} rows per CPU-second{wanted}")


if __name__ == "__main__":
    main()
