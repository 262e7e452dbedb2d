"""The logs of every process while Kafka is away."""

import asyncio
import re
import signal
from pathlib import Path
from time import monotonic
from uuid import uuid4

import orjson
import pytest
from kafka import KafkaProducer

from streams.kafka.admin import create_topics
from streams.kafka.settings import Broker
from streams.records.event import event_headers
from streams.topics import Topics
from tests.faults.harness import Process
from tests.support import real_kafka
from tests.support.ports import free_port
from tests.support.reading import committed, until
from tests.support.receiver import receiving

pytestmark = [pytest.mark.anyio, pytest.mark.fault, pytest.mark.kafka]

AWAY_SECONDS = 75
MAX_LINES = 10
FILES = {
    "turnout.yaml": """
prefix: {prefix}
broker: {{bootstrap: '{bootstrap}', session_timeout: 6, rebalance_timeout: 10}}
partitions: 4
replication: 1
grace: 8
metrics_port: 0
collector: {{host: 127.0.0.1, port: {http}}}
ledger: {{port: {ledger}}}
""",
    "sources/web.yaml": "source: web\nwrite_keys: ['${{FAULTS_WRITE_KEY}}']\n",
    "integrations/one.yaml": """integration: one
forwarder: webhook
settings: {{url: '{url}/one'}}
rules: [{{name: all, map: {{id: $.messageId}}}}]
""",
    "integrations/two.yaml": """integration: two
forwarder: webhook
settings: {{url: '{url}/two'}}
rules: [{{name: all, map: {{id: $.messageId}}}}]
""",
}


def send(broker: Broker, topics: Topics, message_id: str) -> None:
    event = {"type": "track", "event": "E", "userId": "u", "messageId": message_id, "timestamp": "2026-01-02T03:04:05Z"}
    producer = KafkaProducer(**broker.client())
    producer.send(topics.events, orjson.dumps(event), b"u", event_headers("web"), partition=0).get(60)
    producer.close()


async def is_committed(broker: Broker, topics: Topics, name: str) -> bool:
    found = await committed(broker, f"{topics.prefix}.forwarder.{name}", topics.forward(name), 4)
    return found[0] == 1


def lines(process: Process) -> list[str]:
    return process.log.read_text().splitlines()


async def test_each_process_writes_at_most_ten_lines(tmp_path: Path):
    """One says since when Kafka is away, and one that it is back; no placeholder is left, and all work afterwards."""
    async with receiving() as vendor:
        with real_kafka.running(tmp_path / "kafka") as kafka:
            topics, broker = Topics(f"t{uuid4().hex[:8]}", 4), Broker(bootstrap=kafka.bootstrap)
            create_topics(broker, topics.declared(["one", "two"]), replication=1, timeout=60)
            values = {"prefix": topics.prefix, "bootstrap": kafka.bootstrap, "url": vendor.url}
            for name, text in FILES.items():
                path = tmp_path / "folder" / name
                path.parent.mkdir(exist_ok=True, parents=True)
                path.write_text(text.format(http=free_port(), ledger=free_port(), **values))
            commands = ("collector", "router", "forwarder", "ledger")
            processes = {command: Process(tmp_path / "folder", command) for command in commands}
            try:
                await asyncio.gather(*(process.ready() for process in processes.values()))
                await asyncio.to_thread(send, broker, topics, "m-1")
                await until(lambda: len(vendor.got) == 2)
                # A worker with outcomes on their way ends, after Kafka has not taken them for 40 s.
                async with asyncio.timeout(120):
                    while not all([await is_committed(broker, topics, name) for name in ("one", "two")]):
                        await asyncio.sleep(0.2)
                before = {command: len(lines(process)) for command, process in processes.items()}
                kafka.kill()
                began = monotonic()
                await until(lambda: monotonic() - began > AWAY_SECONDS)
                for command, process in processes.items():
                    written = lines(process)[before[command] :]
                    assert len(written) <= MAX_LINES, (command, written)
                    (own,) = [line for line in written if "Kafka unreachable, retrying" in line]
                    assert orjson.loads(own)["since"].startswith("20")
                kafka.start()
                for process in processes.values():
                    await until(lambda process=process: "Kafka is reachable again" in process.log.read_text())
                await asyncio.to_thread(send, broker, topics, "m-2")
                await until(lambda: {got.body["id"] for got in vendor.got} == {"m-1", "m-2"})
                for command, process in processes.items():
                    assert await process.end(signal.SIGTERM) == 0, command
                    facts = [orjson.loads(line) for line in lines(process)]
                    assert not [each for each in facts if re.search(r"%[srd]", each["event"])]
                    assert [each["process"] for each in facts if each["event"] == "stopped"] == [command]
            finally:
                for process in processes.values():
                    process.signal(signal.SIGKILL)
