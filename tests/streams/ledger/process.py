"""Run a ledger process for tests: `python -m tests.streams.ledger.process BOOTSTRAP PREFIX PARTITIONS FOLDER`."""

import asyncio
import sys
from pathlib import Path

from streams.kafka.settings import Broker
from streams.ledger import ingester
from streams.ledger.sqlite_store import SqliteStore
from streams.topics import Topics


async def main(bootstrap: str, prefix: str, partitions: str, folder: str) -> None:
    store = SqliteStore(Path(folder), b"key", 7)
    topics = Topics(prefix=prefix, partitions=int(partitions))
    await ingester.Ingester(Broker(bootstrap=bootstrap), topics, store).run()


if __name__ == "__main__":
    ingester.COMMIT_EVENTS, ingester.COMMIT_SECONDS = 50, 0.05
    asyncio.run(main(*sys.argv[1:]))
