"""A router records its rules in Kafka before it uses them."""

import shutil
from pathlib import Path

import pytest
import structlog
from dotenv import dotenv_values
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import TopicAuthorizationFailedError

from deploy.cli.options import load
from deploy.config.configuration import Configuration
from deploy.runtime import rules_recorder
from deploy.runtime.reload import Reloader, RouterRules
from deploy.runtime.rules_recorder import RulesRecorder
from streams.kafka.settings import Broker, BrokerError
from streams.ledger.kafka_audit import RecordedIntegrations
from streams.records.recorded_rules import RecordedRules
from streams.routing.ruleset import CurrentRules
from streams.topics import Topics

EXAMPLE = Path("deploy/example").resolve()

pytestmark = pytest.mark.anyio


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in dotenv_values(EXAMPLE / "demo.env").items():
        monkeypatch.setenv(name, value or "")
    return shutil.copytree(EXAMPLE, tmp_path / "example")


@pytest.fixture
def on_kafka(folder: Path, broker: Broker, topics: Topics) -> Path:
    """Return the folder, at the test's own topics on a real Kafka."""
    text = f"prefix: {topics.prefix}\npartitions: 3\nbroker: {{bootstrap: '{broker.bootstrap}'}}\n"
    (folder / "turnout.yaml").write_text(text)
    return folder


def recorded(broker: Broker, topics: Topics) -> list[tuple[str, RecordedRules]]:
    part = TopicPartition(topics.rulesets, 0)
    consumer = KafkaConsumer(**broker.consumer())
    try:
        consumer.assign([part])
        consumer.seek_to_beginning(part)
        found: list[tuple[str, RecordedRules]] = []
        while consumer.position(part) < consumer.end_offsets([part])[part]:
            records = consumer.poll(timeout_ms=500).get(part, ())
            found += [(record.key.decode(), RecordedRules.decode(record.value)) for record in records]
        return found
    finally:
        consumer.close()


async def test_routers_record_the_same_rules_under_one_key(on_kafka: Path, broker: Broker, topics: Topics):
    """Once per version and process. The audit knows the integrations of each version, and of no other."""
    configuration = load(on_kafka)
    for _ in range(2):
        recorder = RulesRecorder()
        assert recorder.record(configuration)
        assert recorder.record(configuration)
    found = recorded(broker, topics)
    assert [key for key, _ in found] == [configuration.version] * 2
    assert found[0][1] == found[1][1]
    integrations = RecordedIntegrations(broker, topics.rulesets)
    assert (await integrations.read())(configuration.version) == ["file", "ga4", "webhook"]
    assert RulesRecorder().record(configuration, {"ga4"})
    by_version = await integrations.read()
    assert by_version(configuration.version) == ["file", "ga4", "webhook"]
    assert by_version(configuration.rule_set({"ga4"}).version) == ["file", "webhook"]
    assert by_version("unknown") is None


def test_rules_are_used_after_they_are_recorded(folder: Path):
    """While Kafka does not respond, the old rules stay in use."""
    configuration = load(folder)
    holder = CurrentRules(configuration.rule_set())
    before, answers, asked = holder.current, [False, True], []

    def record(given: Configuration, without: object) -> bool:
        asked.append((given.version, without, holder.current))
        return answers.pop(0)

    apply = RouterRules(holder, configuration, record=record).apply
    reloader = Reloader(configuration, lambda: load(folder, "sources"), apply)
    path = folder / "integrations/webhook.yaml"
    path.write_text(path.read_text().replace("kind: purchase", "kind: order"))
    reloader.poll()
    assert holder.current is before
    reloader.poll()
    assert holder.current.version == reloader.current.version != before.version
    assert asked == [(reloader.current.version, set(), before)] * 2


@pytest.mark.parametrize(
    ("error", "done", "event"),
    [
        (BrokerError("away"), False, "cannot record the rules; trying again"),
        (TopicAuthorizationFailedError(), True, "no permission to write to a topic"),
        (None, True, "a topic is missing"),
    ],
)
def test_a_router_works_without_the_topic(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception | None, done: bool, event: str
):
    """A missing topic or permission is logged once; a Kafka that does not answer is asked again."""

    def find(*_: object) -> dict[str, int]:
        if error is None:
            return {}
        raise BrokerError("no") from error

    monkeypatch.setattr(rules_recorder, "find_partitions", find)
    recorder, configuration = RulesRecorder(), load(folder)
    with structlog.testing.capture_logs() as logs:
        assert [recorder.record(configuration), recorder.record(configuration)] == [done, done]
    assert [line["event"] for line in logs] == [event] * (1 if done else 2)
