"""A process notices that a topic it uses was deleted, created again or given more partitions."""

import asyncio
from collections.abc import Iterable

import pytest
from kafka.admin import KafkaAdminClient

from streams.kafka import topic_watch
from streams.kafka.admin import TopicIdentity, create_topics
from streams.kafka.settings import Broker, BrokerError
from streams.kafka.topic_watch import TopicWatch
from streams.topics import Topic, Topics
from tests.support.reading import until

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_watch, "WATCH_SECONDS", 0.01)
    monkeypatch.setattr(topic_watch, "CONFIRM_SECONDS", 0.0)


@pytest.mark.parametrize("change", ["delete", "create again", "add partitions"])
async def test_a_changed_topic_is_named(broker: Broker, topics: Topics, change: str):
    """On a real Kafka, the line names the topic and its change; other topics are not mentioned."""
    name = f"{topics.prefix}.watched"
    create_topics(broker, [Topic(name, 2, 3600), Topic(f"{name}.other", 2, 3600)], 1)
    failures: list[str] = []
    watch = TopicWatch(broker, lambda: [name, f"{name}.other", f"{name}.missing"], failures.append)
    assert await watch.look() == ""
    running = asyncio.create_task(watch.run())
    admin = KafkaAdminClient(**broker.client())
    try:
        if change == "add partitions":
            await asyncio.to_thread(admin.create_partitions, {name: 3})
        else:
            await asyncio.to_thread(admin.delete_topics, [name])
        if change == "create again":
            running.cancel()
            await asyncio.to_thread(create_topics, broker, [Topic(name, 2, 3600)], 1)
            running = asyncio.create_task(watch.run())
        await until(lambda: bool(failures))
    finally:
        running.cancel()
        admin.close()
    (line,) = failures
    assert line.startswith(f"topic {name} ")
    assert {"delete": "was deleted;", "create again": "created again", "add partitions": "3 partitions instead of 2"}[
        change
    ] in line


async def test_an_outage_or_a_new_topic_is_no_change():
    """Nothing fails while Kafka does not answer, lists a topic only a moment later, or gets a further topic."""
    one, two = TopicIdentity("a", 12), TopicIdentity("b", 12)
    answers: list[dict[str, TopicIdentity] | None] = [{"one": one}, None, {}, {"one": one}, {"one": one, "two": two}]

    def find(_: Broker, names: Iterable[str]) -> dict[str, TopicIdentity]:
        assert set(names) == {"one", "two"}
        if (answer := answers.pop(0)) is None:
            raise BrokerError("Kafka does not answer")
        return answer

    watch = TopicWatch(Broker(), lambda: ["one", "two"], pytest.fail, find)
    while answers:
        assert await watch.look() == ""
