"""A configuration folder, its topics on a real Kafka, and the command line."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import yaml
from click.testing import CliRunner
from kafka import KafkaProducer

from deploy.cli.main import main
from streams.kafka.settings import Broker
from streams.records.dead_letter import DeadLetter
from streams.records.delivery import DeliveryRecord
from streams.records.event import Origin, event_headers
from streams.records.rejected import rejected_headers
from streams.topics import Topics
from tests.support.reading import read

BEGIN = (datetime.now(UTC) - timedelta(days=2)).replace(minute=0, second=0, microsecond=0)
END = BEGIN + timedelta(days=1)
"""A day that lies within what Kafka keeps."""

FILES = {
    "turnout.yaml": """
prefix: {prefix}
broker: {{bootstrap: '{bootstrap}', idempotent: {idempotent}}}
partitions: 3
replication: 1
""",
    "sources/web.yaml": "source: web\n",
    "integrations/one.yaml": """
integration: one
forwarder: webhook
settings: {{url: 'https://example.com/'}}
rules:
  - {{name: bought, when: 'event = "Bought"', map: {{total: $.properties.total, by: today}}}}
otherwise: drop
""",
}


class Stage:
    """A configuration folder, its topics on a real Kafka, and the command line."""

    def __init__(self, folder: Path, broker: Broker, topics: Topics) -> None:
        self.folder, self.broker, self.topics = folder, broker, topics
        idempotent = str(broker.idempotent).lower()
        for name, text in FILES.items():
            path = folder / name
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_text(text.format(prefix=topics.prefix, bootstrap=broker.bootstrap, idempotent=idempotent))

    def write(self, *records: dict[str, Any]) -> None:
        producer = KafkaProducer(**self.broker.client(), enable_idempotence=self.broker.idempotent)
        for record in records:
            producer.send(**record).get(10)
        producer.close()

    def arrive(self, *numbers: int, at: datetime = BEGIN, **fields: Any) -> None:
        """Write events with a record time, each to the partition of its number."""
        self.write(
            *(
                {
                    "topic": self.topics.events, "partition": n % 3, "key": b"u%d" % n,
                    "value": orjson.dumps(self.event(n, **fields)), "headers": event_headers("web"),
                    "timestamp_ms": round(at.timestamp() * 1000),
                }
                for n in numbers
            )
        )  # fmt: skip

    def forwarded(self, integration: str = "one") -> list[Any]:
        return asyncio.run(read(self.broker, self.topics.forward(integration)))

    def events(self) -> list[Any]:
        return asyncio.run(read(self.broker, self.topics.events))

    def event(self, n: int, **fields: Any) -> dict[str, Any]:
        return {
            "type": "track", "event": "Bought", "userId": f"u{n}", "messageId": f"m{n}",
            "timestamp": "2026-01-02T03:04:05.000Z", "receivedAt": "2026-01-02T03:04:06.000Z",
            "properties": {"total": n}, **fields,
        }  # fmt: skip

    def die(
        self,
        n: int,
        *,
        event: dict[str, Any] | None = None,
        payload: Any = None,
        reason: str = "bad",
        detail: str | None = None,
        rule: str = "old",
    ) -> None:
        """Write the event with offset `n` of partition 0, and its dead letter."""
        delivery = DeliveryRecord(
            f"m{n}", rule, "v0", "track", "Bought", "t", "r", "web", Origin(self.topics.events, 0, n),
            {"total": n, "by": "then"} if payload is None else payload,
        )  # fmt: skip
        detail = f"detail {n}" if detail is None else detail
        letter = DeadLetter("one", delivery.data(), reason, detail, 2, "2026-01-02T03:04:05Z")
        self.write(
            {
                "topic": self.topics.events, "partition": 0, "key": b"u%d" % n,
                "value": orjson.dumps(event or self.event(n)), "headers": event_headers("web"),
            },
            {"topic": self.topics.dead, "partition": n % 3, "key": b"u%d" % n, "value": letter.encode()},
        )  # fmt: skip

    def reject(self, value: bytes, reason: str, source: str = "web", *, by_collector: bool = False) -> None:
        origin = None if by_collector else Origin(self.topics.events, 1, 9)
        key = None if by_collector else b"u"
        headers = rejected_headers(reason, "because", source, origin)
        self.write({"topic": self.topics.rejected, "partition": 1, "key": key, "value": value, "headers": headers})

    def configure(self, changes: dict[str, Any]) -> None:
        """Change keys of the integration `one`; None removes a key."""
        path = self.folder / "integrations" / "one.yaml"
        data = {**yaml.safe_load(path.read_text()), **changes}
        path.write_text(yaml.safe_dump({key: value for key, value in data.items() if value is not None}))

    def run(self, *arguments: str, code: int = 0, output: str = "stdout", **more: Any) -> str:
        result = CliRunner().invoke(main, [*arguments, "--config", str(self.folder)], **more)
        assert result.exit_code == code, result.output
        text: str = getattr(result, output)
        return text

    def listed(self, kind: str, *options: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.run(kind, "list", "--json", *options).splitlines()]
