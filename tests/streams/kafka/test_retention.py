"""How long Kafka keeps what, as `turnout topics --create` sets it up."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient

from deploy.cli.main import main
from streams.kafka.settings import Broker
from streams.topics import Topics

DAY_MS = 24 * 3600 * 1000


def test_dead_letters_and_rejected_events_are_kept_four_times_as_long():
    """They wait for a person; everything else has had its time when the events have; suppressions never end."""
    declared = Topics(retention_days=3).declared(["ga4"], ["shop.orders"])
    days = {topic.name: topic.retention and topic.retention / (24 * 3600) for topic in declared}
    assert days == {
        "turnout.events": 3,
        "turnout.rejected": 12,
        "turnout.outcomes": 3,
        "turnout.dead": 12,
        "turnout.suppressed": None,
        "turnout.status": 600 / (24 * 3600),
        "turnout.control": None,
        "turnout.rulesets": None,
        "turnout.forward.ga4": 3,
        "turnout.forward.ga4.retry": 3,
        "shop.orders": 3,
    }
    assert {topic.name: topic.partitions for topic in declared if topic.partitions != 12} == {
        "turnout.suppressed": 1,
        "turnout.status": 1,
        "turnout.control": 1,
        "turnout.rulesets": 1,
        "shop.orders": None,
    }


def test_the_memory_is_declared_only_if_a_source_uses_it():
    """With the partitions of the events, compacted, and for its own number of days."""
    assert "turnout.memory" not in {topic.name for topic in Topics().declared([])}
    (memory,) = [it for it in Topics(partitions=5).declared([], memory_days=30) if it.name == "turnout.memory"]
    assert (memory.partitions, memory.config["cleanup.policy"]) == (5, "compact,delete")
    assert memory.config["retention.ms"] == str(30 * DAY_MS)
    assert memory.config["segment.ms"] == str(DAY_MS)


@pytest.fixture
def folder(broker: Broker, topics: Topics, tmp_path: Path) -> Path:
    """A configuration folder of its own prefix, with one integration, whose topics are not there yet."""
    settings = {
        "prefix": f"{topics.prefix}r",
        "broker": {"bootstrap": broker.bootstrap},
        "partitions": 2,
        "replication": 1,
        "retention_days": 5,
    }
    integration = {
        "integration": "one",
        "forwarder": "webhook",
        "settings": {"url": "https://example.com/"},
        "otherwise": "drop",
        "rules": [],
    }
    (tmp_path / "turnout.yaml").write_text(yaml.safe_dump(settings))
    (tmp_path / "integrations").mkdir()
    (tmp_path / "integrations" / "one.yaml").write_text(yaml.safe_dump(integration))
    return tmp_path


def read_configs(broker: Broker, names: list[str]) -> dict[str, dict[str, str]]:
    """Return the broker's configuration of each topic."""
    admin = KafkaAdminClient(**broker.client())
    try:
        found = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names])
    finally:
        admin.close()
    return {name: {key: entry["value"] for key, entry in entries.items()} for name, entries in found["topic"].items()}


@pytest.mark.kafka
def test_topics_are_created_with_their_retention(broker: Broker, topics: Topics, folder: Path):
    """The broker has the declared retention and maximum record size of each topic."""
    prefix = f"{topics.prefix}r"
    result = CliRunner().invoke(main, ["topics", "--create", "--json", "--config", str(folder)])
    assert result.exit_code == 0, result.output
    rows = {row["topic"].removeprefix(f"{prefix}."): row["there"] for row in json.loads(result.stdout)}
    assert rows == dict.fromkeys(["events", "rejected", "outcomes", "dead", "forward.one", "forward.one.retry"], 2) | {
        "suppressed": 1,
        "status": 1,
        "control": 1,
        "rulesets": 1,
    }
    configs = read_configs(broker, [f"{prefix}.{name}" for name in rows])
    assert {name.removeprefix(f"{prefix}."): config.get("retention.ms") for name, config in configs.items()} == {
        "events": str(5 * DAY_MS),
        "rejected": str(20 * DAY_MS),
        "outcomes": str(5 * DAY_MS),
        "dead": str(20 * DAY_MS),
        "suppressed": None,
        "status": str(600 * 1000),
        "control": None,
        "rulesets": None,
        "forward.one": str(5 * DAY_MS),
        "forward.one.retry": str(5 * DAY_MS),
    }
    assert {config["max.message.bytes"] for config in configs.values()} == {str(2 * 1024 * 1024)}
    policies = {name.removeprefix(f"{prefix}."): config["cleanup.policy"] for name, config in configs.items()}
    assert {name: policy for name, policy in policies.items() if policy != "delete"} == {
        "suppressed": "compact",
        "control": "compact",
        "rulesets": "compact",
        "status": "compact,delete",
    }
