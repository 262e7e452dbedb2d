import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from deploy.simulator.server import Simulator
from streams.kafka.admin import create_topics
from streams.records.delivery import DeliveryRecord
from streams.records.event import Origin
from streams.topics import Topics
from tests.deploy.replay.stage import BEGIN, END, Stage
from tests.support import tansu
from tests.support.reading import until
from tests.support.simulating import serving

DAY = ("--from", BEGIN.isoformat(), "--to", END.isoformat())


def replay(stage: Stage, *options: str, code: int = 0) -> dict[str, Any]:
    """What the command reports; of two that are given the last option counts."""
    common = ("--integration", "one", *DAY, "--force", "--yes", "--json", "--rate", "0")
    return json.loads(stage.run("replay", *common, *options, code=code) or "null")


def test_events_of_a_time_go_out_by_todays_rules_under_their_ids(stage: Stage):
    """Only those of the time, by today's payload; id, key, partition and coordinates are those of the event."""
    stage.arrive(0, 1, 2, at=BEGIN - timedelta(milliseconds=1))
    stage.arrive(3, 4, 5, at=BEGIN)
    stage.arrive(6, 7, 8, at=END)
    report = replay(stage)
    assert (report["read"], report["sent"], report["finished"]) == (3, 3, True)
    forwarded = sorted(stage.forwarded(), key=lambda record: record.partition)
    assert [(record.partition, record.key) for record in forwarded] == [(0, b"u3"), (1, b"u4"), (2, b"u5")]
    for n, delivery in enumerate((DeliveryRecord.decode(record.value) for record in forwarded), start=3):
        assert (delivery.id, delivery.rule, delivery.payload) == (f"m{n}", "bought", {"total": n, "by": "today"})
        assert (delivery.origin, delivery.received) == (
            Origin(stage.topics.events, n % 3, 1),
            "2026-01-02T03:04:06.000Z",
        )


def test_every_event_is_accounted_for(stage: Stage):
    """Dropped, repeated, invalid and unmappable events are counted and not sent."""
    rules = stage.folder / "integrations" / "one.yaml"
    fails = "  - {name: fails, when: 'event = \"Fails\"', map: {'@path': $.properties.total}}\n"
    rules.write_text(rules.read_text().replace("otherwise: drop", f"{fails}otherwise: drop"))
    stage.arrive(0, 3)
    stage.arrive(3)
    stage.arrive(6, event="Other")
    stage.arrive(9, event="Fails")
    stage.arrive(12, type="nonsense")
    stage.arrive(15, integrations={"one": False})
    report = replay(stage, code=1)
    found = {(row["outcome"], row["rule"]): row["count"] for row in report["outcomes"]}
    assert found == {
        ("forwarded", "bought"): 2,
        ("duplicate", None): 1,
        ("filtered", None): 1,
        ("dead", "fails"): 1,
        ("rejected", None): 1,
        ("opted_out", None): 1,
    }
    assert report["read"] == 7
    assert [DeliveryRecord.decode(record.value).id for record in stage.forwarded()] == ["m0", "m3"]


def test_a_repeat_of_an_event_before_the_time_is_one(stage: Stage):
    """The window of messageIds reaches back beyond the beginning."""
    stage.arrive(0, at=BEGIN - timedelta(hours=1))
    stage.arrive(0, 3)
    assert [row["outcome"] for row in replay(stage)["outcomes"]] == ["duplicate", "forwarded"]
    assert [DeliveryRecord.decode(record.value).id for record in stage.forwarded()] == ["m3"]


def test_events_are_chosen_by_name(stage: Stage):
    """Track events by their names, other calls by their types."""
    stage.arrive(0)
    stage.arrive(3, event="Other")
    stage.arrive(6, type="page", event=None, name="Home")
    assert replay(stage, "--event", "Other", "--event", "page")["outcomes"][0]["count"] == 2
    assert replay(stage, "--event", "Bought")["sent"] == 1
    assert len(stage.forwarded()) == 1


def test_a_dry_run_sends_nothing_and_is_not_remembered(stage: Stage):
    """It says the same as the run, needs no --force, and leaves the run to do."""
    stage.arrive(*range(5))
    common = ("--integration", "one", *DAY, "--json")
    rehearsed = json.loads(stage.run("replay", *common, "--dry-run"))
    assert stage.forwarded() == []
    assert replay(stage) == rehearsed
    assert len(stage.forwarded()) == 5


def test_a_replay_that_is_done_is_not_done_twice(stage: Stage):
    """The same command sends nothing more unless restarted from the beginning; newer events do not change that."""
    stage.arrive(*range(5))
    assert replay(stage)["sent"] == 5
    stage.arrive(9, at=END + timedelta(hours=1))
    assert replay(stage)["sent"] == 0
    assert len(stage.forwarded()) == 5
    assert replay(stage, "--again")["sent"] == 5
    assert len(stage.forwarded()) == 10


def test_it_asks_first(stage: Stage):
    """With the number of events; a no sends nothing."""
    stage.arrive(*range(4))
    common = ("--integration", "one", *DAY, "--force")
    assert "Replay 4 events to one?" in stage.run("replay", *common, code=1, input="n\n", output="stderr")
    assert stage.forwarded() == []


@pytest.mark.parametrize(
    ("forwarder", "age", "said"),
    [
        ("ga4", timedelta(hours=1), "does not recognize duplicates"),
        ("webhook", timedelta(hours=1), "the endpoint may ignore the key"),
        ("meta", timedelta(hours=1), None),
        ("meta", timedelta(hours=60), "recognizes duplicates for 48 hours, and these events are up to 60 hours old"),
        ("meta", timedelta(days=8), "accepts no events older than 7 days, and these are up to 8 days old"),
        ("klaviyo", timedelta(days=300), None),
    ],
)
def test_what_the_vendor_would_count_twice_wants_force(stage: Stage, forwarder: str, age: timedelta, said: str | None):
    """Objections name the dedupe field, its window and the maximum age; --force sends anyway."""
    settings = {
        "ga4": {"measurement_id": "G-1", "api_secret": "${S}"},
        "webhook": {"url": "https://example.com/"},
        "meta": {"pixel_id": "1", "access_token": "${S}"},
        "klaviyo": {"api_key": "${S}"},
    }
    stage.configure({"forwarder": forwarder, "settings": settings[forwarder], "rules": [], "otherwise": "drop"})
    now = datetime.now(UTC)
    times = ("--from", (now - age).isoformat(), "--to", (now - age + timedelta(minutes=1)).isoformat())
    common = ("--integration", "one", *times, "--yes")
    output = stage.run("replay", *common, code=2 if said else 0, output="stderr")
    assert (said or "no events in that period") in output
    assert "no events in that period" in stage.run("replay", *common, "--force", output="stderr")


def test_what_the_vendor_takes_no_more_is_left_out(stage: Stage):
    """An event older than the integration's max_age is counted, and no delivery that would expire is made."""
    stage.configure({"delivery": {"max_age": 3600}})
    stage.arrive(0)
    (row,) = replay(stage)["outcomes"]
    assert (row["outcome"], row["count"]) == ("expired", 1)
    assert stage.forwarded() == []


@pytest.mark.parametrize(
    "options",
    [
        ("--integration", "three"),
        ("--from", END.isoformat()),
        ("--to", "2999-01-01"),
        ("--from", "yesterday"),
    ],
)
def test_wrong_use(stage: Stage, options: tuple[str, ...]):
    """An unknown integration, a period that ends before it begins, or a future period: exit code 2."""
    replay(stage, *options, code=2)


def test_the_embedded_broker_can_replay_too(tmp_path: Path):
    """It has no entry for a time after its last record, and remembers how far a replay came."""
    with tansu.running() as broker:
        topics = Topics(prefix="embedded", partitions=3)
        create_topics(broker, topics.declared(["one"]), replication=1, timeout=60)
        stage = Stage(tmp_path, broker, topics)
        stage.arrive(*range(6))
        end = datetime.now(UTC) + timedelta(milliseconds=1)  # the broker's time of the last record is before it
        while datetime.now(UTC) < end:
            pass
        times = ("--from", BEGIN.isoformat(), "--to", end.isoformat())
        assert [replay(stage, *times)["sent"] for _ in range(2)] == [6, 0]


@contextmanager
def process(stage: Stage, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """One of Turnout's processes, for the length of a `with`."""
    command = [
        sys.executable,
        "-c",
        "from deploy.cli.main import main; main()",
        *arguments,
        "--config",
        str(stage.folder),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


@pytest.mark.anyio
async def test_stopped_and_resumed_every_event_reaches_the_vendor_as_often_as_asked(stage: Stage):
    """A replay stopped by Ctrl-C and resumed sends each event once; a new one sends each again, with the same keys."""
    stage.arrive(*range(300))
    with ExitStack() as running:
        url = running.enter_context(serving(Simulator()))
        stage.configure({"settings": {"url": url}})
        running.enter_context(process(stage, "forwarder"))

        def counts() -> dict[str, Any]:
            return requests.get(f"{url}/_counts", timeout=60).json().get("webhook", {"deliveries": 0})

        common = ("replay", "--integration", "one", *DAY, "--force", "--yes", "--json")
        with process(stage, *common, "--rate", "10") as first:
            await until(lambda: counts()["deliveries"] > 20, 120)
            first.send_signal(signal.SIGINT)
            report = json.loads(first.communicate(timeout=120)[0])
            assert first.returncode == 1
        assert 0 < report["sent"] < 300
        assert not report["finished"]
        rest = replay(stage)
        assert rest["sent"] == 300 - report["sent"]
        await until(lambda: counts()["deliveries"] == 300, 120)
        assert (counts()["keys"], counts()["repeated"]) == (300, {})
        replay(stage, "--again")
        await until(lambda: counts()["deliveries"] == 600, 120)
        assert set(counts()["repeated"].values()) == {2}
        assert counts()["keys"] == 300
