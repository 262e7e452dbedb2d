"""The rules of past versions are read from Kafka, the newest first, and no more than a bound."""

from pathlib import Path

import pytest
from kafka import KafkaProducer

from deploy.cli.options import load
from deploy.ledger import kafka_facts
from deploy.ledger.kafka_facts import open_kafka
from deploy.ledger.past_rules import PastRules
from streams.kafka.settings import Broker
from streams.records.recorded_rules import RecordedRules
from streams.topics import Topics

VERSIONS = 100


@pytest.fixture
def recorded(broker: Broker, topics: Topics) -> Topics:
    """A hundred versions; the first one was recorded again in the middle, and the last was removed."""
    producer = KafkaProducer(**broker.client())
    for number in [*range(VERSIONS // 2), 0, *range(VERSIONS // 2, VERSIONS)]:
        release = "again" if number == 0 else str(number)
        value = RecordedRules(release, ["good"], {}, {}, {}).encode()
        producer.send(topics.rulesets, value, f"v{number}".encode(), partition=0)
    producer.send(topics.rulesets, None, f"v{VERSIONS - 1}".encode(), partition=0)
    producer.flush()
    producer.close()
    return topics


def test_any_version_is_found_with_its_newest_record(broker: Broker, recorded: Topics):
    """A removed version is not there, although an older record is."""
    with open_kafka(broker, recorded) as kafka:
        found = kafka.rules({"v0", "v1", "v60", f"v{VERSIONS - 2}", f"v{VERSIONS - 1}", "unknown"})
    assert {version: rules.release for version, rules in found.by_version.items()} == {
        "v0": "again",
        "v1": "1",
        "v60": "60",
        f"v{VERSIONS - 2}": str(VERSIONS - 2),
    }
    assert not found.cut


def test_the_search_for_rules_is_bounded(
    broker: Broker, recorded: Topics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Recent versions are found in few bytes; for one that is beyond the bound, the reason says how far was read."""
    monkeypatch.setattr(kafka_facts, "RULES_BYTES", 1)
    (tmp_path / "turnout.yaml").write_text(f"prefix: {recorded.prefix}\n")
    with open_kafka(broker, recorded) as kafka:
        found = kafka.rules({"v1", f"v{VERSIONS - 2}"})
        assert (list(found.by_version), found.cut) == ([f"v{VERSIONS - 2}"], True)
        (used,) = PastRules(load(tmp_path)).find({"v1"}, kafka).values()
    assert used.problem == "the rules v1 are not among the newest 64 MB in Kafka"


def test_rules_that_were_read_are_kept(
    broker: Broker, recorded: Topics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The second event of a version needs nothing from Kafka; so the console reads each version once."""
    (tmp_path / "turnout.yaml").write_text(f"prefix: {recorded.prefix}\n")
    past = PastRules(load(tmp_path))
    with open_kafka(broker, recorded) as kafka:
        first = past.find({"v1"}, kafka)
        monkeypatch.setattr(kafka, "rules", None)
        assert past.find({"v1"}, kafka) == first
