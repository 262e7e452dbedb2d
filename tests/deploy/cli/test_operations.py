"""`turnout status`, `pause`, `resume` and `probe` on a real Kafka, beside running processes and a simulated vendor."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from click.testing import CliRunner
from kafka.admin import KafkaAdminClient

from deploy.cli.main import main
from streams.kafka.settings import Broker
from streams.parsing.times import seconds_of
from streams.records.delivery import DeliveryRecord
from streams.records.event import Origin
from streams.topics import Topics
from tests.deploy.replay.stage import Stage
from tests.support.ports import free_port
from tests.support.reading import until
from tests.support.receiver import Receiver, receiving

pytestmark = pytest.mark.anyio


@pytest.fixture
def stage(broker: Broker, topics: Topics, tmp_path: Path) -> Stage:
    return Stage(tmp_path, broker, topics)


@contextmanager
def process(stage: Stage, *command: str, code: int = 0) -> Iterator[list[dict[str, Any]]]:
    """Run a process; yields its log until it was ready."""
    turnout = Path(sys.executable).parent / "turnout"
    with subprocess.Popen(
        [turnout, *command, "--config", stage.folder], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as running:
        assert running.stderr
        logged = []
        for line in running.stderr:
            logged.append(json.loads(line))
            if logged[-1]["event"] == "ready":
                break
        else:
            pytest.fail(f"it did not start: {logged}")
        try:
            yield logged
            running.terminate()
            logged += map(json.loads, running.communicate(timeout=120)[1].splitlines())
        finally:
            running.kill()
    assert running.returncode == code


def forward(stage: Stage, *numbers: int) -> None:
    stage.write(
        *(
            {
                "topic": stage.topics.forward("one"), "partition": n % 3, "key": b"u%d" % n,
                "value": DeliveryRecord(
                    f"m{n}", "bought", "v", "track", "Bought", "t", "t", "web",
                    Origin(stage.topics.events, n % 3, n), {"total": n, "by": "today"},
                ).encode(),
            }
            for n in numbers
        )
    )  # fmt: skip


def totals(vendor: Receiver) -> set[int]:
    return {got.body["total"] for got in vendor.got}


def pointed_at(stage: Stage, vendor: Receiver) -> None:
    stage.configure({"settings": {"url": vendor.url}, "delivery": {"backoff_min": 0.1, "backoff_max": 1.0}})


async def run(stage: Stage, *arguments: str, code: int = 0, output: str = "stdout") -> str:
    """Run a command while the vendor keeps responding."""
    return await asyncio.to_thread(stage.run, *arguments, code=code, output=output)


async def shown(stage: Stage) -> dict[str, Any]:
    """What `turnout status --json` prints, whatever its exit code."""
    # In this process: it is asked many times.
    command = ["status", "--json", "--config", str(stage.folder)]
    done = await asyncio.to_thread(CliRunner().invoke, main, command)
    data: dict[str, Any] = json.loads(done.stdout)
    assert done.exit_code == bool(data["problems"])
    return data


async def shows(stage: Stage, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """What `turnout status` shows, once it fulfils a condition."""
    deadline = time.monotonic() + 120
    while not condition(data := await shown(stage)):
        assert time.monotonic() < deadline, data
        await asyncio.sleep(0.5)
    return data


def state_of(data: dict[str, Any]) -> str | None:
    (row,) = data["integrations"]
    return row["vendor"] and row["vendor"]["state"]


@pytest.mark.operations
async def test_pause_stops_requests_and_resume_delivers_all(stage: Stage):
    """No request goes out after `pause` has returned, also of a forwarder that starts then; `resume` delivers all."""
    async with receiving() as vendor:
        pointed_at(stage, vendor)
        with process(stage, "forwarder") as logged:
            forward(stage, 0)
            await until(lambda: totals(vendor) == {0})
            assert "one is paused; 1 forwarder confirmed it" in await run(stage, "pause", "one")
            forward(stage, *range(1, 10))
            # The lag is measured: the records are there, and not delivered.
            data = await shows(stage, lambda data: data["integrations"][0]["lag"] == 9)
            assert state_of(data) == "paused"
            assert data["integrations"][0]["paused"]["action"] == "paused"
            assert "one is already paused, by " in await run(stage, "pause", "one")
        (obeyed,) = [line["timestamp"] for line in logged if line["event"] == "delivery is paused by hand"]
        assert seconds_of(obeyed) - seconds_of(data["integrations"][0]["paused"]["when"]) < 2
        with process(stage, "forwarder"):
            data = await shows(stage, lambda data: data["integrations"][0]["lag"] == 9)
            assert state_of(data) == "paused"
            assert totals(vendor) == {0}
            assert "paused" in await run(stage, "status", code=1)
            assert "one is resumed; 1 forwarder confirmed it" in await run(stage, "resume", "one")
            await until(lambda: totals(vendor) == set(range(10)))
            assert len(vendor.got) == 10
        with process(stage, "forwarder"):
            forward(stage, 10)
            await until(lambda: 10 in totals(vendor))


@pytest.mark.operations
async def test_pause_before_any_forwarder_starts(stage: Stage):
    """A forwarder obeys a command that was given while none ran."""
    async with receiving() as vendor:
        pointed_at(stage, vendor)
        assert "no forwarder reports" in await run(stage, "pause", "one")
        forward(stage, 0)
        with process(stage, "forwarder"):
            await shows(stage, lambda data: state_of(data) == "paused" and data["integrations"][0]["lag"] == 1)
            assert not vendor.got
            await run(stage, "resume", "one")
            await until(lambda: totals(vendor) == {0})


async def test_probe_tries_at_once(stage: Stage):
    """The breaker does not wait for its next probe; refused credentials are shown, and need an operator."""
    async with receiving() as vendor:
        pointed_at(stage, vendor)
        stage.configure(
            {
                "delivery": {"backoff_min": 300, "backoff_max": 300, "retry_in_place": 600},
                "settings": {"url": vendor.url},
            }
        )
        vendor.answer = lambda _: web.Response(status=401, text="the token has ended")
        with process(stage, "forwarder"), process(stage, "router"):
            forward(stage, 0)
            data = await shows(stage, lambda data: state_of(data) == "refused")
            (row,) = data["integrations"]
            assert (row["vendor"]["status"], row["vendor"]["answer"]) == (401, "the token has ended")
            assert row["vendor"]["probe"] > data["at"]
            assert [problem["what"] for problem in data["problems"]] == ["one: the vendor rejects the credentials"]
            text = await run(stage, "status", code=1)
            assert "401 the token has ended" in text
            assert max(map(len, text.splitlines())) <= 80
            vendor.answer = lambda _: web.json_response({})
            tried = len(vendor.got)
            assert "one is asked to probe" in await run(stage, "probe", "one")
            await until(lambda: len(vendor.got) > tried, 60)
            data = await shows(stage, lambda data: state_of(data) == "delivering" and not data["problems"])
            assert {one["kind"] for one in data["processes"]} == {"router", "forwarder"}
            (router,) = [one["pipelines"] for one in data["processes"] if one["kind"] == "router"]
            assert router[0]["partitions"] == {stage.topics.events: [0, 1, 2]}
        assert not (await shown(stage))["processes"]


async def test_probe_of_a_paused_integration_is_refused(stage: Stage):
    """It would send, which somebody has forbidden."""
    await run(stage, "pause", "one")
    assert "(resume it: turnout resume one)" in await run(stage, "probe", "one", code=1, output="stderr")


@pytest.mark.parametrize("command", ["pause", "resume", "probe"])
def test_unknown_integration(stage: Stage, command: str):
    """Exit code 2, with the nearest name."""
    assert "no integration is called 'onee' (did you mean 'one'?)" in stage.run(
        command, "onee", code=2, output="stderr"
    )


async def test_workers_start_without_the_topics_of_a_later_version(stage: Stage):
    """They log it once and deliver; `turnout topics` lists the missing topics, and commands name the remedy."""
    admin = KafkaAdminClient(**stage.broker.client())
    admin.delete_topics([stage.topics.status, stage.topics.control])
    admin.close()
    assert (await run(stage, "topics", code=1)).count("missing") == 2
    async with receiving() as vendor:
        pointed_at(stage, vendor)
        with process(stage, "forwarder") as logged:
            forward(stage, 0)
            await until(lambda: totals(vendor) == {0})
    missing = [line["topic"] for line in logged if line["event"] == "a topic is missing"]
    assert sorted(missing) == [stage.topics.control, stage.topics.status]
    for command in (("status",), ("pause", "one")):
        assert "turnout topics --create" in await run(stage, *command, code=1, output="stderr")
    await run(stage, "topics", "--create")
    await run(stage, "pause", "one")


async def test_a_collector_reports_itself(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    """It has no pipelines; its report is removed when it stops."""
    monkeypatch.setenv("TURNOUT_COLLECTOR__PORT", str(free_port()))
    with process(stage, "collector"):
        data = await shows(stage, lambda data: bool(data["processes"]))
        (collector,) = data["processes"]
        assert (collector["kind"], collector["pipelines"], len(collector["rules"])) == ("collector", [], 12)
    assert not (await shown(stage))["processes"]
