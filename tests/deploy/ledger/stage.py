"""Run a router, a forwarder and a ledger on a real Kafka, with a vendor and the command line."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from time import time
from typing import Any
from uuid import uuid4

import orjson
import requests
from aiohttp import web
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import CommitFailedError
from click.testing import CliRunner, Result
from kafka import KafkaAdminClient, KafkaProducer

from deploy.cli.main import main
from streams.kafka.admin import create_topics
from streams.kafka.settings import Broker
from streams.records.event import event_headers
from streams.records.outcomes import Outcomes
from streams.records.outcomes import Stage as Stages
from streams.records.run_header import RUN_HEADER, EventFacts, encode_run
from streams.topics import Topics
from tests.faults.harness import Process
from tests.streams.ledger.making import EventRecord
from tests.support.ports import free_port
from tests.support.reading import committed
from tests.support.receiver import Got, Receiver, receiving

FILES = {
    "turnout.yaml": """
prefix: {prefix}
broker: {{bootstrap: '{bootstrap}', session_timeout: 6, rebalance_timeout: 10}}
partitions: 2
replication: 1
grace: 5
ledger: {{port: {port}, user_key: '${{FAULTS_WRITE_KEY}}'}}
""",
    "sources/web.yaml": "source: web\n",
    "integrations/good.yaml": """integration: good
forwarder: webhook
settings: {{url: '{url}/good'}}
rules:
  - {{name: order, when: 'event = "Order"', map: {{id: $.messageId}}}}
""",
    "integrations/crm.yaml": """integration: crm
forwarder: webhook
settings: {{url: '{url}/crm'}}
rules:
  - name: order
    when: 'event = "Order"'
    map: {{email: $.properties.email}}
""",
    "integrations/meta.yaml": """integration: meta
forwarder: webhook
settings: {{url: '{url}/meta'}}
consent: {{all: [advertising]}}
rules:
  - {{name: order, when: 'event = "Order"', map: {{id: $.messageId}}}}
""",
    "integrations/slack.yaml": """integration: slack
forwarder: webhook
settings: {{url: '{url}/slack'}}
rules:
  - name: big-order
    when: 'properties.total > 500'
    map: {{id: $.messageId}}
""",
}


class Stage:
    """A configuration folder, its processes, and the command line."""

    def __init__(self, folder: Path, broker: Broker, vendor: Receiver) -> None:
        self.folder, self.broker, self.vendor = folder, broker, vendor
        self.topics = Topics(f"t{uuid4().hex[:8]}", 2)
        self.port = free_port()
        self.processes: dict[str, Process] = {}
        self.sent = 0
        vendor.answer = self._answer
        for name, text in FILES.items():
            path = folder / name
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_text(
                text.format(prefix=self.topics.prefix, bootstrap=broker.bootstrap, port=self.port, url=vendor.url)
            )
        names = ["good", "crm", "meta", "slack"]
        create_topics(broker, self.topics.declared(names), replication=1, timeout=60)

    @staticmethod
    def _answer(got: Got) -> web.Response:
        if got.path.endswith("/crm") and "bad" in json.dumps(got.body):
            return web.json_response({"email": "invalid \x1b[31m"}, status=422)
        return web.json_response({})

    async def start(self, command: str, code: Path | None = None) -> None:
        """Start a process, with the code of another folder if given."""
        self.processes[command] = Process(self.folder, command, code=code)
        await self.processes[command].ready()

    async def stop(self, command: str) -> None:
        assert await self.processes[command].end(signal.SIGTERM) == 0

    def send(self, count: int = 1, **properties: Any) -> None:
        """Send numbered events to partition 0 like a collector."""
        producer = KafkaProducer(**self.broker.client())
        for number in range(self.sent, self.sent + count):
            event = {
                "type": "track", "event": "Order", "userId": f"u-{number % 7}", "messageId": f"m-{number}",
                "timestamp": "2026-01-02T03:04:05Z", "receivedAt": "2026-01-02T03:04:06Z",
                "properties": {"total": 59.9, "email": "a@b.example", **properties},
            }  # fmt: skip
            headers = event_headers("web")
            key, value = event["userId"].encode(), orjson.dumps(event)
            producer.send(self.topics.events, value, key, headers, partition=0)
        producer.flush()
        producer.close()
        self.sent += count

    async def claim(self, offset: int, message_id: str) -> None:
        """Write a router's run that records a different messageId for an event of partition 0."""
        (header,) = encode_run(
            [EventRecord(offset, b"u", int(time() * 1000))], [EventFacts(offset, message_id, "web", "track", "Order")]
        )
        value = Outcomes(Stages.ROUTER, self.topics.events, 0, "v0", ()).encode()
        producer = KafkaProducer(**self.broker.client())
        producer.send(self.topics.outcomes, value, headers=[(RUN_HEADER, header)], partition=0).get(60)
        producer.close()

    async def send_in_transaction(self, values: Sequence[bytes], *, commit: bool) -> None:
        """Send values to partition 0 in a transaction, which is committed or aborted."""
        producer = AIOKafkaProducer(**self.broker.client(), transactional_id=uuid4().hex)
        await producer.start()
        try:
            await producer.begin_transaction()
            for value in values:
                await producer.send_and_wait(self.topics.events, value, headers=event_headers("web"), partition=0)
            await (producer.commit_transaction() if commit else producer.abort_transaction())
        finally:
            await producer.stop()

    async def forget_rules(self, rules: str) -> None:
        """Remove a version of the rules from Kafka."""
        producer = KafkaProducer(**self.broker.client())
        producer.send(self.topics.rulesets, None, rules.encode(), partition=0).get(60)
        producer.close()

    def delete_before(self, offset: int) -> None:
        """Remove the events of partition 0 before an offset, as Kafka's retention does."""
        admin = KafkaAdminClient(**self.broker.client())
        admin.delete_records({TopicPartition(self.topics.events, 0): offset})
        admin.close()

    def ask(self, path: str) -> Any:
        """Query the ledger's API."""
        return requests.get(f"http://127.0.0.1:{self.port}{path}", timeout=60).json()

    async def routed(self) -> None:
        """Wait until the router has committed all events, and forwarders have committed all deliveries."""
        async with asyncio.timeout(180):
            while await self._lag():
                await asyncio.sleep(0.1)

    async def _lag(self) -> int:
        prefix = self.topics.prefix
        groups = {f"{prefix}.router": self.topics.events}
        groups |= {f"{prefix}.forwarder.{name}": self.topics.forward(name) for name in ("good", "crm")}
        lag = 0
        for group, topic in groups.items():
            done = await committed(self.broker, group, topic, 2)
            consumer = AIOKafkaConsumer(**self.broker.client(), enable_auto_commit=False)
            await consumer.start()
            end = (await consumer.end_offsets([TopicPartition(topic, 0)]))[TopicPartition(topic, 0)]
            await consumer.stop()
            lag += end - (done[0] or 0)
        return lag

    async def move_router(self, by: int) -> int:
        """Move the committed offset of the router's group; returns the old one."""
        group, part = f"{self.topics.prefix}.router", TopicPartition(self.topics.events, 0)
        before = (await committed(self.broker, group, part.topic, 2))[0]
        assert before is not None
        async with asyncio.timeout(120):
            # A member that has ended is in the group until its session is over.
            while not await self._commits(group, part, before + by):
                await asyncio.sleep(0.2)
        return before

    async def _commits(self, group: str, part: TopicPartition, offset: int) -> bool:
        consumer = AIOKafkaConsumer(**self.broker.client(), group_id=group, enable_auto_commit=False)
        await consumer.start()
        try:
            consumer.assign([part])
            await consumer.commit({part: offset})
        except CommitFailedError:
            return False
        finally:
            await consumer.stop()
        return True

    async def run(self, *arguments: str) -> Result:
        """Run a command."""
        return await asyncio.to_thread(CliRunner().invoke, main, [*arguments, "--config", str(self.folder)])

    async def json(self, *arguments: str) -> Any:
        return orjson.loads((await self.run(*arguments, "--json")).stdout)


@asynccontextmanager
async def running(folder: Path, broker: Broker, commands: Sequence[str]) -> AsyncIterator[Stage]:
    """Run a stage with these processes."""
    async with receiving() as vendor:
        stage = Stage(folder, broker, vendor)
        try:
            await asyncio.gather(*(stage.start(command) for command in commands))
            yield stage
        finally:
            for process in stage.processes.values():
                process.signal(signal.SIGKILL)
