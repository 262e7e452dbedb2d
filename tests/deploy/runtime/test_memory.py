"""The enrichment `memory` with routers on the real Kafka: a browser's values complete a server's later events."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest

from deploy.config.configuration import Configuration, read_configuration
from deploy.dryrun.masked import make_masked_forwarder
from deploy.dryrun.preview import preview_delivery, request_data
from streams import events
from streams.kafka.acks import PendingAcks
from streams.kafka.admin import create_topics
from streams.kafka.partition import make_partitioner
from streams.kafka.producer import Producer
from streams.kafka.settings import Broker
from streams.records.delivery import DeliveryRecord
from streams.records.event import event_headers
from streams.records.memory import MEMORY_END, MemoryCipher, MemoryKey, MemoryKind
from streams.records.outcomes import FORWARDED, NOTED, Outcomes
from streams.routing.decision import RouteDecision
from streams.routing.router import make_router
from streams.routing.ruleset import CurrentRules
from streams.steps.enrichment.memory import VisitorMemorySettings
from streams.suppression.admin import change
from streams.worker.pipeline import ConsumerPipeline
from tests.support.reading import read, until

pytestmark = pytest.mark.anyio

SECRET = "a secret of sixteen"
FBP, FBC, GCLID = "fb.1.1790000000000.1234567890", "fb.1.1790000000000.IwAR0clickid", "EAIaIQobGCLID"
GRANTED = {"consent": {"categoryPreferences": {"advertising": True}}}
DENIED = {"consent": {"categoryPreferences": {"advertising": False}}}
SETTINGS = "{pixel_id: '1', access_token: '${META_TOKEN}'}"
PARTITIONS = 3
home = make_partitioner(PARTITIONS)


def ids_in_different_partitions() -> tuple[str, str]:
    """Return a visitor and a user whose events are in different partitions."""
    user = f"user-{uuid4().hex}"
    while True:
        visitor = f"visitor-{uuid4().hex}"
        if home(visitor.encode()) != home(user.encode()):
            return visitor, user


class Shop:
    """A shop whose site and server send events, and its routers."""

    def __init__(self, folder: Path, broker: Broker) -> None:
        prefix = f"t{uuid4().hex[:8]}"
        for name, text in {
            "turnout.yaml": f"{{prefix: {prefix}, partitions: {PARTITIONS}, memory: {{secret: '${{MEMORY_SECRET}}'}}}}",
            "sources/web.yaml": "{source: web, enrich: {campaign: {}, memory: {consent: [advertising]}}}",
            "sources/server.yaml": "{source: server, enrich: {memory: {consent: [advertising]}}}",
            "sources/other.yaml": "{source: other, enrich: {campaign: {}}}",
            "integrations/meta.yaml": f"{{integration: meta, forwarder: meta, preset: meta, settings: {SETTINGS}}}",
        }.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)
        self.broker = broker
        self.configuration: Configuration = read_configuration(folder)
        self.topics = self.configuration.topics
        self.failed: list[str] = []
        self.sent = 0
        create_topics(broker, self.configuration.declared, replication=1, timeout=60)

    async def send(self, source: str, event: Mapping[str, Any]) -> None:
        """Write an event like the collector."""
        self.sent += 1
        full = {"messageId": f"m{self.sent}", "context": GRANTED, **event}
        key = events.key(full)
        assert key
        producer = Producer(self.broker, client_id="send")
        await producer.start()
        acks = PendingAcks()
        producer.append(
            self.topics.events,
            home(key),
            acks,
            key=key,
            value=orjson.dumps(full),
            headers=event_headers(source),
        )
        await acks.confirmed(120)
        await producer.stop()

    @asynccontextmanager
    async def router(self, memory: VisitorMemorySettings | None = None) -> AsyncIterator[ConsumerPipeline]:
        """Run a router until all that was sent is routed."""
        producer = Producer(self.broker, client_id="router", on_failure=lambda error: self.failed.append(repr(error)))
        await producer.start()
        pipeline = make_router(
            CurrentRules(self.configuration.rule_set()),
            self.topics,
            self.broker,
            producer,
            self.configuration.settings.router,
            self.configuration.suppression.users,
            fail=self.failed.append,
            grace=5,
            memory=memory or self.configuration.settings.memory,
        )
        await pipeline.app.start()
        try:
            yield pipeline
        finally:
            await pipeline.app.stop()
            await pipeline.stop_processor()
            await producer.stop()
        assert not self.failed

    async def wait_for(self, condition: Callable[[Mapping[MemoryKey, bytes | None]], bool]) -> None:
        """Wait for a condition of the last values in the topic of the memory, by key."""
        async with asyncio.timeout(120):
            while not condition(await self.memory()):
                assert not self.failed

    async def user_data(self, order: str) -> dict[str, Any]:
        """Return `user_data` of the request to Meta about an order, once it is forwarded."""
        route = self.configuration.rule_set().routes[0]
        forwarder = make_masked_forwarder(self.configuration.integrations["meta"])
        found: list[bytes] = []
        async with asyncio.timeout(120):
            while not found:
                records = await read(self.broker, self.topics.forward("meta"))
                found = [it.value for it in records if DeliveryRecord.decode(it.value).id == order]
                assert not self.failed
        request = preview_delivery(RouteDecision(route, "", FORWARDED, value=found[0]), forwarder).request
        assert request
        (sent,) = request_data(request)["body"]["data"]
        return sent["user_data"]

    async def memory(self) -> dict[MemoryKey, bytes | None]:
        """Return the last value of each key in the topic of the memory."""
        values = {record.key: record.value for record in await read(self.broker, self.topics.memory)}
        return {MemoryKey.decode(key): value for key, value in values.items() if key != MEMORY_END}


@pytest.fixture
def shop(tmp_path: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.setenv("MEMORY_SECRET", SECRET)
    monkeypatch.setenv("META_TOKEN", "t")
    return Shop(tmp_path, broker)


def has_copies(memory: Mapping[MemoryKey, bytes | None]) -> bool:
    """Return whether an entry is in the partition of another ID."""
    return any(key.kind is MemoryKind.COPY for key in memory)


def page(**fields: Any) -> dict[str, Any]:
    url = f"https://shop.example/?fbclid=IwAR0clickid&gclid={GCLID}"
    return {
        "type": "page",
        "timestamp": "2026-09-21T14:13:20.000Z",
        "properties": {"url": url},
        "integrations": {"meta": {"fbp": FBP, "fbc": FBC}},
        **fields,
    }


def purchase(order: str, **fields: Any) -> dict[str, Any]:
    properties = {"order_id": order, "revenue": 9.5, "currency": "EUR"}
    return {"type": "track", "event": "Order Completed", "messageId": order, "properties": properties, **fields}


async def test_a_page_before_login_completes_the_servers_purchase(shop: Shop):
    """The visitor becomes a user; another router, and one after a restart, know it; the topic is not readable."""
    visitor, user = ids_in_different_partitions()
    async with shop.router():
        await shop.send("web", page(anonymousId=visitor))
        await shop.send(
            "web", {"type": "identify", "anonymousId": visitor, "userId": user, "traits": {"email": "ann@shop.example"}}
        )
        await shop.wait_for(has_copies)
        await shop.send("server", purchase("o1", userId=user))
        found = await shop.user_data("o1")
        assert (found["fbp"], found["fbc"]) == (FBP, FBC)
        assert found["em"]
        async with shop.router() as other:
            await until(lambda: bool(other.app.consumer.assignment()))
            await shop.send("server", purchase("o2", userId=user))
            assert (await shop.user_data("o2"))["fbp"] == FBP
    async with shop.router():
        await shop.send("server", purchase("o3", userId=user))
        assert (await shop.user_data("o3"))["fbc"] == FBC
        await shop.send("other", purchase("o4", userId=user))
        assert "fbp" not in await shop.user_data("o4")
        await shop.send("server", purchase("o5", userId=user, context={}))
        assert "fbp" not in await shop.user_data("o5")
    records = await read(shop.broker, shop.topics.memory)
    content = b"\n".join((record.key or b"") + b" " + (record.value or b"") for record in records)
    for text in (visitor, user, FBP, FBC, GCLID, "ann@shop.example", "clickid", "integrations", "meta", "groups"):
        assert text.encode() not in content
    named = [each for it in await read(shop.broker, shop.topics.outcomes) for each in Outcomes.decode(it.value).named]
    notes = [each.detail for each in named if each.outcome == NOTED and each.reason == "memory"]
    assert any("integrations.meta.fbp" in detail for detail in notes)
    assert all(FBP not in detail for detail in notes)


async def test_denied_consent_and_suppression_delete_entries(shop: Shop):
    """A tombstone replaces the entry, and the copy in the partition of the user."""
    visitor, user = ids_in_different_partitions()
    async with shop.router():
        await shop.send("web", page(anonymousId=visitor))
        await shop.send("web", page(anonymousId=visitor, userId=user))
        await shop.wait_for(has_copies)
        suppressed = shop.configuration.suppression.users
        change(shop.broker, shop.topics, suppressed, [user], lift=False, memory=shop.configuration.memory_cipher)
        await shop.wait_for(lambda memory: not any(memory.values()))
        await shop.send("web", page(anonymousId="v2"))
        await shop.send("web", page(anonymousId="v2", context=DENIED))
        entry = MemoryKey(MemoryKind.ENTRY, MemoryCipher(SECRET).digest("v2"))
        await shop.wait_for(lambda memory: entry in memory and not any(memory.values()))


async def test_an_event_of_a_suppressed_user_deletes_the_entry(shop: Shop):
    """So do users of the file, or of a list that an earlier release wrote."""
    async with shop.router():
        await shop.send("web", page(userId="u"))
        await shop.wait_for(bool)
        change(shop.broker, shop.topics, shop.configuration.suppression.users, ["u"], lift=False)
        await shop.send("web", page(userId="u"))
        await shop.wait_for(lambda memory: not any(memory.values()))
