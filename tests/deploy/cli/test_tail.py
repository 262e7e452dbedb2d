"""`turnout tail` as a process, on the embedded broker."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest

from streams.kafka.admin import create_topics
from streams.kafka.settings import Broker
from streams.records.delivery import DeliveryRecord
from streams.records.event import Origin, event_headers
from streams.records.outcomes import FORWARDED, Outcome, OutcomeInterval, Outcomes
from streams.records.outcomes import Stage as Stages
from streams.records.rejected import rejected_headers
from streams.topics import Topics
from tests.deploy.replay.stage import Stage
from tests.support import tansu


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    with tansu.running() as broker:
        yield broker


@pytest.fixture
def stage(broker: Broker, tmp_path: Path) -> Stage:
    topics = Topics(prefix=f"t{uuid4().hex[:8]}", partitions=3)
    create_topics(broker, topics.declared(["one"]), replication=1, timeout=60)
    return Stage(tmp_path, broker, topics)


@contextmanager
def tail(stage: Stage, *options: str) -> Iterator["subprocess.Popen[str]"]:
    """The command at work, ended by Ctrl-C, with exit code 0."""
    command = [Path(sys.executable).parent / "turnout", "tail", "--config", stage.folder, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout
        assert running.stderr
        try:
            for line in running.stderr:
                if "showing events" in line:
                    break
            yield running
            running.send_signal(signal.SIGINT)
            assert running.wait(60) == 0, running.stderr.read()
        finally:
            running.kill()


def arrive(stage: Stage, offset: int, outcome: str, *, trace: bytes | None = None, **fields: Any) -> None:
    """An event of partition 0, which must get this offset, its delivery, and its outcome."""
    origin = Origin(stage.topics.events, 0, offset)
    event = {**stage.event(offset), **fields}
    delivery = DeliveryRecord(
        f"m{offset}", "bought", "v", "track", "Bought", "t", "t", "web", origin, {"total": offset}
    )
    outcomes = [
        Outcomes(stages, origin.topic, 0, "v", [OutcomeInterval("one", "bought", each, offset, offset)])
        for stages, each in ((Stages.ROUTER, FORWARDED), (Stages.FORWARDER, outcome))
    ]
    key = b"u"
    stage.write(
        {"topic": origin.topic, "partition": 0, "key": key, "value": orjson.dumps(event),
         "headers": event_headers("web", trace)},
        {"topic": stage.topics.forward("one"), "partition": 0, "key": key, "value": delivery.encode()},
        *({"topic": stage.topics.outcomes, "partition": 0, "value": each.encode()} for each in outcomes),
    )  # fmt: skip


def test_events_are_shown_as_they_arrive(stage: Stage):
    """With --json each event is one line with its outcomes and payload; events before the start are not shown."""
    arrive(stage, 0, Outcome.DELIVERED)
    with tail(stage, "--json", "--integration", "one") as running:
        arrive(stage, 1, Outcome.DELIVERED, trace=b"mine")
        arrive(stage, 2, Outcome.DEAD)
        shown = [json.loads(running.stdout.readline()) for _ in range(2)]
    assert [(each["place"], each["trace"], each["source"]) for each in shown] == [
        ([stage.topics.events, 0, 1], "mine", "web"),
        ([stage.topics.events, 0, 2], None, "web"),
    ]
    assert shown[0]["event"] == stage.event(1)
    assert shown[0]["outcomes"] == [
        {"integration": "one", "rule": "bought", "outcome": "delivered", "reason": "", "payload": {"total": 1}}
    ]
    assert shown[1]["outcomes"][0]["outcome"] == "dead"


def test_filters_and_hostile_text(stage: Stage):
    """Only the matching event is shown, and a terminal gets none of its control characters."""
    with tail(stage, "--trace", "mine", "--event", "Evil\x1b[2J", "--user", "u9") as running:
        arrive(stage, 0, Outcome.DELIVERED, trace=b"mine")
        arrive(stage, 1, Outcome.DELIVERED, event="Evil\x1b[2J", userId="u9")
        arrive(stage, 2, Outcome.DELIVERED, trace=b"mine", event="Evil\x1b[2J", userId="u9")
        lines = [running.stdout.readline() for _ in range(2)]
    assert lines[0] == "track Evil\\u001b[2J  user u9  from web\n"
    assert lines[1].split()[:3] == ["one", "delivered", "bought"]


def test_rejected_events(stage: Stage):
    """They are shown with their reason, and have the outcome `rejected`."""
    with tail(stage, "--outcome", "rejected", "--trace", "mine") as running:
        arrive(stage, 0, Outcome.DELIVERED, trace=b"mine")
        headers = rejected_headers("type", "no such type", "web", trace=b"mine")
        stage.write({"topic": stage.topics.rejected, "partition": 0, "value": b"{\x1b}", "headers": headers})
        assert running.stdout.readline() == "rejected  no such type\n"
        assert running.stdout.readline() == "  {\\u001b}\n"


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        (("--integration", "onee"), "did you mean 'one'?"),
        (("--source", "wep"), "did you mean 'web'?"),
        (("--outcome", "deliverd"), "did you mean 'delivered'?"),
    ],
)
def test_unknown_names(stage: Stage, option: tuple[str, str], hint: str):
    """Exit code 2 with the nearest name, instead of silence."""
    assert hint in stage.run("tail", *option, code=2, output="stderr")
