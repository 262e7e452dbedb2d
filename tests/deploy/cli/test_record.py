"""`turnout record` and `turnout diff --since` on a real Kafka: the embedded one finds no offsets by records' times."""

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from deploy.cli.main import main
from streams.kafka.settings import Broker
from streams.topics import Topics
from tests.deploy.replay.stage import Stage

BEGAN = datetime.now(UTC) - timedelta(minutes=30)


@pytest.fixture
def stage(broker: Broker, topics: Topics, tmp_path: Path) -> Stage:
    return Stage(tmp_path / "old", broker, topics)


def arrive(stage: Stage, *numbers: int, **fields: Any) -> None:
    """Event N came N seconds after half an hour ago."""
    for number in numbers:
        stage.arrive(number, at=BEGAN + timedelta(seconds=number), **fields)


def recorded(stage: Stage, *options: str, code: int = 0) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stage.run("record", *options, code=code).splitlines()]


def ids(events: list[dict[str, Any]]) -> list[str]:
    return [event["messageId"] for event in events]


def test_the_newest_events(stage: Stage):
    """Of all partitions those that came last, oldest first, as they were accepted."""
    arrive(stage, *range(20))
    assert recorded(stage, "--last", "1") == [stage.event(19)]
    assert ids(recorded(stage, "--last", "5")) == ["m15", "m16", "m17", "m18", "m19"]
    assert len(recorded(stage, "--last", "1000")) == 20


def test_the_newest_matching_events(stage: Stage):
    """They are looked for as far back as needed, in every partition."""
    arrive(stage, 0, 1, 2, event="Rare")
    arrive(stage, *range(3, 40))
    assert ids(recorded(stage, "--last", "2", "--event", "Rare")) == ["m1", "m2"]
    assert ids(recorded(stage, "--last", "9", "--user", "u7", "--user", "u8")) == ["m7", "m8"]
    assert recorded(stage, "--last", "9", "--user", "nobody", code=1) == []


def test_events_of_a_period(stage: Stage):
    """--since is inclusive, --until exclusive; invalid events are left out."""
    arrive(stage, *range(6))
    stage.write({"topic": stage.topics.events, "partition": 0, "value": b"{"})
    since, until = ((BEGAN + timedelta(seconds=n)).isoformat() for n in (2, 5))
    assert sorted(ids(recorded(stage, "--since", since, "--until", until))) == ["m2", "m3", "m4"]
    assert len(recorded(stage, "--since", "12h")) == 6
    assert "6 events (web 6)" in stage.run("record", "--since", "12h", output="stderr")


def test_masked_events(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    """With `ledger.user_key` replacements are the same in every run, and no id of a user is left."""
    settings = stage.folder / "turnout.yaml"
    arrive(stage, 1, 4)
    assert "replacements differ" in stage.run("record", "--last", "9", "--mask", output="stderr")
    monkeypatch.setenv("RECORD_USER_KEY", "0123456789abcdef")
    settings.write_text(f"{settings.read_text()}ledger: {{user_key: '${{RECORD_USER_KEY}}'}}\n")
    masked = recorded(stage, "--last", "9", "--mask")
    assert masked == recorded(stage, "--last", "9", "--mask")
    assert ids(masked) == ["m1", "m4"]
    assert masked[0]["properties"] == {"total": 1}
    assert {event["userId"] for event in masked}.isdisjoint({"u1", "u4"})


@pytest.mark.parametrize(
    "options",
    [(), ("--last", "1", "--since", "12h"), ("--last", "1", "--until", "1h"), ("--last", "1", "--source", "x")],
)
def test_wrong_options(stage: Stage, options: tuple[str, ...]):
    """Exit code 2."""
    stage.run("record", *options, code=2)


def test_diff_on_traffic(stage: Stage, tmp_path: Path):
    """The rules are compared on the events in Kafka, with the place of the first event of each change."""
    new = tmp_path / "new"
    shutil.copytree(stage.folder, new)
    path = new / "integrations" / "one.yaml"
    data = yaml.safe_load(path.read_text())
    data["rules"][0]["when"] += " and properties.total > 2"
    path.write_text(yaml.safe_dump(data))
    arrive(stage, *range(6))
    arrive(stage, 6, event="Other")
    result = CliRunner().invoke(main, ["diff", str(stage.folder), str(new), "--since", "12h", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["events"] == 7
    (change,) = found["changes"]
    assert (change["count"], change["before"]["outcome"], change["after"]["outcome"]) == (3, "forwarded", "filtered")
    assert change["at"].startswith(f"{stage.topics.events}:")
    text = CliRunner().invoke(main, ["diff", str(stage.folder), str(new), "--since", "12h", "--source", "web"]).stdout
    assert f"3 events, first at {stage.topics.events}:" in text
