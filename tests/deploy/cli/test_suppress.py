"""`turnout suppress` on a real Kafka, beside a running router, and what else asks the list."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from streams.kafka.settings import Broker
from streams.records.delivery import DeliveryRecord
from streams.records.outcomes import Outcomes
from streams.suppression.filter import SuppressedUsers
from streams.topics import Topics
from tests.deploy.replay.stage import BEGIN, END, Stage
from tests.support.reading import read

ROUNDS = 5


@pytest.fixture
def stage(broker: Broker, topics: Topics, tmp_path: Path) -> Stage:
    return Stage(tmp_path, broker, topics)


@contextmanager
def routing(stage: Stage) -> Iterator[None]:
    """A router at work."""
    command = [Path(sys.executable).parent / "turnout", "router", "--config", stage.folder]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        assert any('"ready"' in line for line in process.stderr)
        try:
            yield
            process.terminate()
            process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == 0


def totals(stage: Stage) -> set[int]:
    return {DeliveryRecord.decode(record.value).payload["total"] for record in stage.forwarded()}


def wait_for(stage: Stage, total: int) -> None:
    deadline = time.monotonic() + 120
    while total not in totals(stage):
        assert time.monotonic() < deadline, f"{total} is not forwarded"


def test_nothing_is_forwarded_from_the_next_event_on(stage: Stage):
    """What is sent after the command has returned goes nowhere, from a router's first event, until it is lifted."""
    stage.run("suppress", "u0")
    stage.arrive(0, 1)
    with routing(stage):
        wait_for(stage, 1)
        for number in range(2, 2 + ROUNDS):
            stage.arrive(number)
            wait_for(stage, number)
            stage.run("suppress", f"u{number}")
            stage.arrive(number, messageId=f"again{number}", properties={"total": 100 + number})
            stage.arrive(number, messageId=f"alias{number}", userId="new", anonymousId=f"u{number}")
            stage.arrive(1, messageId=f"control{number}", properties={"total": 200 + number})
            wait_for(stage, 200 + number)
        stage.run("suppress", "--lift", "u0")
        stage.arrive(0, messageId="lifted", properties={"total": 300})
        wait_for(stage, 300)
    assert totals(stage) == {1, 300} | {first + n for n in range(2, 2 + ROUNDS) for first in (0, 200)}
    suppressed = 0
    for record in asyncio.run(read(stage.broker, stage.topics.outcomes)):
        spans = Outcomes.decode(record.value).spans
        suppressed += sum(span.last - span.first + 1 for span in spans if span.outcome == "suppressed")
    assert suppressed == 1 + 2 * ROUNDS


def test_the_list_knows_digests_and_dates(stage: Stage):
    """Ids come as arguments and from the input; --list shows digests, and those who are asked for by their ids."""
    said = stage.run("suppress", "u1", "-", input="u2\n\nu3\n")
    assert said == "3 users are suppressed, from the next event on\n"
    assert json.loads(stage.run("suppress", "--lift", "u3", "--json")) == {"lifted": 1}
    rows = [json.loads(line) for line in stage.run("suppress", "--list", "--json").splitlines()]
    assert [row["digest"] for row in rows] == sorted(SuppressedUsers().digest(user).decode() for user in ("u1", "u2"))
    assert all(row["since"].startswith("20") for row in rows)
    assert stage.run("suppress", "--list", "u2", "u3").split()[1:] == ["u2"]
    stage.run("suppress", code=2)
    stage.run("suppress", "--list", "--lift", "u", code=2)


def test_replays_ask_the_list(stage: Stage):
    """Neither the past nor dead letters go out again for a suppressed user, by today's rules or as they were."""
    stage.arrive(1, 2)
    stage.die(3)
    stage.die(4)
    stage.run("suppress", "u1", "u3")
    past = ("--integration", "one", "--from", BEGIN.isoformat(), "--to", END.isoformat(), "--force", "--yes")
    outcomes = json.loads(stage.run("replay", *past, "--json", "--rate", "0"))["outcomes"]
    assert {row["outcome"]: row["count"] for row in outcomes} == {"suppressed": 1, "forwarded": 1}
    assert json.loads(stage.run("dead", "replay", "--as-was", "--yes", "--json", code=1)) == {
        "replayed": 1,
        "its user is suppressed": 1,
    }
    assert totals(stage) == {2, 4}


def test_explain_asks_when_told(stage: Stage, tmp_path: Path):
    """Without --broker only the file is checked, and the output says so."""
    event = tmp_path / "event.json"
    event.write_text(json.dumps(stage.event(1)))
    stage.run("suppress", "u1")

    def step(*options: str) -> tuple[str, bool, str]:
        told = json.loads(stage.run("explain", "--event", str(event), "--source", "web", "--json", *options))
        last = told["steps"][-1]
        return last["step"], last["passed"], last["detail"]

    assert step() == ("suppression from the file", True, "nothing to change")
    assert step("--broker") == ("suppression", False, "suppressed: its user is suppressed")
