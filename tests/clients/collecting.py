"""Run a collector for SDKs: the process that users run, with an embedded broker."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from streams.kafka.admin import create_topics
from streams.kafka.settings import Broker
from streams.topics import Topics
from tests.streams.tracking.helpers import until
from tests.support import tansu
from tests.support.ports import free_port
from tests.support.reading import read

KEY = "demo-key"
JITSU_KEY = "demo:secret"
"""Jitsu's client takes only keys of this form."""
EVENT_BYTES = 4096
BODY_BYTES = 16 * 1024
TOPICS = Topics("clients", partitions=1)


class Collector:
    """A running `turnout collector` with limits low enough for SDKs to reach; it listens on `port`."""

    def __init__(self, broker: Broker, folder: Path, settings: Mapping[str, Any]) -> None:
        self.port = free_port()
        self._broker = broker
        limits = {"event_bytes": EVENT_BYTES, "body_bytes": BODY_BYTES}
        document = {
            "prefix": TOPICS.prefix,
            "partitions": TOPICS.partitions,
            "broker": {"bootstrap": broker.bootstrap, "idempotent": False},
            "collector": {"host": "127.0.0.1", "port": self.port, **limits, **settings},
        }
        (folder / "sources").mkdir(parents=True)
        (folder / "turnout.yaml").write_text(json.dumps(document))
        (folder / "sources" / "shop.yaml").write_text("source: shop\nwrite_keys: ['${KEY}', '${JITSU_KEY}']\n")
        self._log = folder / "log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [Path(sys.executable).parent / "turnout", "collector", "--config", folder],
                env={"PATH": os.environ["PATH"], "KEY": KEY, "JITSU_KEY": JITSU_KEY},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait_until_ready(self) -> None:
        """Wait until it accepts events."""

        def ready() -> bool:
            assert self._process.poll() is None, self._log.read_text()
            return '"ready"' in self._log.read_text()

        until(ready, 120)

    def events(self, mark: str) -> list[dict[str, Any]]:
        """Return the accepted events that contain this text, such as a user or a site."""
        return self._read(TOPICS.events, mark)

    def rejected(self, mark: str) -> list[dict[str, Any]]:
        """Return the rejected events that contain this text."""
        return self._read(TOPICS.rejected, mark)

    def _read(self, topic: str, mark: str) -> list[dict[str, Any]]:
        records = asyncio.run(read(self._broker, topic, TOPICS.partitions))
        return [json.loads(record.value) for record in records if mark.encode() in record.value]

    def close(self) -> None:
        """Stop it, and check its exit code."""
        self._process.terminate()
        assert self._process.wait(120) == 0, self._log.read_text()


@contextmanager
def collecting(folder: Path, **settings: Any) -> Iterator[Collector]:
    """Run a collector with these additional settings."""
    with tansu.running() as broker:
        create_topics(broker, TOPICS.declared([]), replication=1, timeout=60)
        collector = Collector(broker, folder / "configuration", settings)
        try:
            collector.wait_until_ready()
            yield collector
        finally:
            collector.close()
