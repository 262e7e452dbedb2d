"""New rules in a running process."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import structlog
from dotenv import dotenv_values

from deploy.cli.options import load
from deploy.runtime import reload
from deploy.runtime.reload import Deliveries, Reloader, RouterRules, file_hashes
from streams.kafka.admin import Mismatch
from streams.kafka.settings import BrokerError
from streams.observability.metrics import CONFIGURATION, CONFIGURATION_BROKEN
from streams.routing.ruleset import CurrentRules
from tests.support import tansu

EXAMPLE = Path("deploy/example").resolve()
DEMO = dotenv_values(EXAMPLE / "demo.env")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy of the example's folder, with all its variables set."""
    for name, value in DEMO.items():
        monkeypatch.setenv(name, value)
    return shutil.copytree(EXAMPLE, tmp_path / "example")


@pytest.fixture
def router(folder):
    """A router's holder, and what keeps it at the folder."""
    configuration = load(folder)
    holder = CurrentRules(configuration.rule_set())
    return holder, Reloader(configuration, lambda: load(folder, "sources"), RouterRules(holder, configuration).apply)


def edit(folder, name, *replacement):
    path = folder / name
    old, new = replacement
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def payload(holder):
    """What the webhook gets of an order."""
    event = {"type": "track", "event": "Order Completed", "userId": "u"}
    route = next(route for route in holder.current.routes if route.integration == "webhook")
    ((_, mapped),) = route.apply(event)
    return mapped


def test_an_untouched_folder_changes_nothing(router):
    """Without a change the very same rule set stays in force."""
    holder, reloader = router
    before = holder.current
    reloader.poll()
    assert holder.current is before


def test_new_rules_are_taken_up_as_a_whole(folder, router):
    """A changed file gives a new rule set with a new version, exported; the old one is as it was."""
    holder, reloader = router
    before = holder.current
    edit(folder, "integrations/webhook.yaml", "kind: purchase", "kind: order")
    reloader.poll()
    assert payload(holder)["kind"] == "order"
    assert holder.current.version != before.version
    assert CONFIGURATION.labels(holder.current.version)._value.get() == 1
    assert len(CONFIGURATION.collect()[0].samples) == 1


def test_a_broken_folder_leaves_the_old_rules(folder, router):
    """Errors are reported with their place, and the old rules stay in use until the folder is valid again."""
    holder, reloader = router
    before = holder.current
    edit(folder, "integrations/webhook.yaml", "$.userId, plan", "$.[, plan")
    with structlog.testing.capture_logs() as logs:
        reloader.poll()
        reloader.poll()
    assert holder.current is before
    assert CONFIGURATION_BROKEN._value.get() == 1
    (line,) = logs
    assert line["mistakes"][0].startswith(f"{folder}/integrations/webhook.yaml:28:")
    edit(folder, "integrations/webhook.yaml", "$.[, plan", "$.anonymousId, plan")
    reloader.poll()
    assert holder.current.version != before.version
    assert CONFIGURATION_BROKEN._value.get() == 0


def test_who_is_suppressed_is_taken_up_and_kept(folder, monkeypatch):
    """A replaced file of suppressed users is reloaded, and users read from Kafka survive new rules."""
    monkeypatch.setenv("TURNOUT_SUPPRESSION__FILE", "suppressed.txt")
    file = folder / "suppressed.txt"
    file.write_text("u-1\n")
    configuration = load(folder)
    holder = CurrentRules(configuration.rule_set())
    reloader = Reloader(configuration, lambda: load(folder, "sources"), RouterRules(holder, configuration).apply)
    users = configuration.suppression.users
    users.take(users.digest("u-2"), b"{}")

    def suppressed():
        step = holder.current.sources.by_name("web").steps[0]
        return [user for user in ("u-1", "u-2", "u-3") if step.includes(user)]

    assert suppressed() == ["u-1", "u-2"]
    file.write_text("u-1\nu-3\n")
    reloader.poll()
    assert suppressed() == ["u-1", "u-2", "u-3"]
    users.take(users.digest("u-2"), None)
    assert suppressed() == ["u-1", "u-3"]


def test_a_folder_that_is_gone_leaves_the_old_rules(folder, router):
    """So is a folder that cannot be read at all."""
    holder, reloader = router
    before = holder.current
    shutil.rmtree(folder)
    reloader.poll()
    assert holder.current is before


def test_a_variable_that_is_not_set_is_a_mistake(folder, router, monkeypatch):
    """A worker does not take up a file that wants a variable it does not have."""
    holder, reloader = router
    before = holder.current
    edit(folder, "sources/web.yaml", "WEB_WRITE_KEY", "NEW_WRITE_KEY")
    monkeypatch.delenv("NEW_WRITE_KEY", raising=False)
    reloader.poll()
    assert holder.current is before


def test_sources_are_taken_up(folder, router, monkeypatch):
    """A new write key is known, and one that was taken out no longer."""
    holder, reloader = router
    monkeypatch.setenv("NEW_WRITE_KEY", "fresh")
    edit(folder, "sources/web.yaml", "WEB_WRITE_KEY", "NEW_WRITE_KEY")
    reloader.poll()
    assert reloader.current.sources.find("fresh").name == "web"
    assert reloader.current.sources.find("demo-web") is None
    assert holder.current.sources is reloader.current.sources


def joined(holder):
    """What the table of plans says to the router's source of web events."""
    (step,) = [step for step in holder.current.sources.by_name("web").steps if step.name == "enrich.lookup"]
    return step({"type": "identify", "userId": "u", "traits": {"plan": "pro"}}, lambda *_: None)["traits"]


def test_a_file_of_data_is_taken_up(folder, router):
    """A table that was not there when the rules named it, and one that is replaced, are read at the next look."""
    holder, reloader = router
    lookup = "enrich:\n  lookup: {tables: [{file: plans.csv, key: traits.plan, into: traits}]}"
    edit(folder, "sources/web.yaml", "enrich:", lookup)
    before = holder.current
    reloader.poll()
    assert holder.current is before
    (folder / "plans.csv").write_text("plan,price\npro,9\n")
    reloader.poll()
    assert joined(holder) == {"plan": "pro", "price": "9"}
    (folder / "plans.csv").write_text("plan,price\npro,19\n")
    reloader.poll()
    assert joined(holder) == {"plan": "pro", "price": "19"}
    before = holder.current
    reloader.poll()
    assert holder.current is before
    (folder / "plans.csv").unlink()
    reloader.poll()
    assert holder.current is before


def test_draining_blocks_the_route(folder, router):
    """An integration that is set to draining gets nothing new."""
    holder, reloader = router
    with (folder / "integrations/webhook.yaml").open("a") as file:
        file.write("state: draining\n")
    reloader.poll()
    assert {route.integration for route in holder.current.routes if not route.draining} == {"file", "ga4"}


def test_a_new_integration_waits_for_its_topic(folder, router, monkeypatch):
    """A new integration has a route once its topic exists, and is logged once; other changes do not wait."""
    holder, reloader = router
    there = []

    def find_mismatches(_broker, declared, _timeout):
        if not there:
            raise BrokerError("Kafka does not answer")
        return [Mismatch(topic, None) for topic in declared if topic.name not in there]

    monkeypatch.setattr(reload, "find_mismatches", find_mismatches)
    text = (folder / "integrations/file.yaml").read_text()
    (folder / "integrations/more.yaml").write_text(text.replace("integration: file", "integration: more"))
    edit(folder, "integrations/webhook.yaml", "kind: purchase", "kind: order")
    with structlog.testing.capture_logs() as logs:
        reloader.poll()
        there.append("other")
        reloader.poll()
    assert {route.integration for route in holder.current.routes} == {"file", "ga4", "webhook"}
    assert payload(holder)["kind"] == "order"
    assert [line["integration"] for line in logs if "waiting" in line["event"]] == ["more"]
    there += ["turnout.forward.more", "turnout.forward.more.retry"]
    reloader.poll()
    assert {route.integration for route in holder.current.routes} == {"file", "ga4", "more", "webhook"}


def test_turnout_yaml_waits_for_a_restart(folder, router):
    """Changed settings of the process are logged and not applied; changed rules are applied."""
    holder, reloader = router
    edit(folder, "turnout.yaml", "partitions: 4", "partitions: 5\nprefix: other")
    edit(folder, "integrations/webhook.yaml", "kind: purchase", "kind: order")
    with structlog.testing.capture_logs() as logs:
        reloader.poll()
    assert next(line["keys"] for line in logs if "need a restart" in line["event"]) == ["prefix", "partitions"]
    assert payload(holder)["kind"] == "order"
    assert {route.topic.split(".")[0] for route in holder.current.routes} == {"turnout"}


class Stations:
    """A worker that records the pipelines that it starts and stops."""

    def __init__(self, names):
        self.pipelines = [SimpleNamespace(name=name) for name in names]
        self.steps = []

    async def add(self, pipeline):
        self.steps.append(f"add {pipeline.name} {pipeline.settings}")

    async def remove(self, name):
        self.steps.append(f"remove {name}")


def test_a_forwarders_pipelines_follow_the_files(folder, monkeypatch):
    """Changed settings restart that integration alone, a gone one stops, a new one begins once its topics are there."""
    lacking = ["turnout.forward.more.retry"]

    def mismatches(_, declared, __):
        return [Mismatch(topic, None) for topic in declared if topic.name in lacking]

    monkeypatch.setattr("deploy.runtime.reload.find_mismatches", mismatches)

    def make(name, configuration):
        return SimpleNamespace(name=name, settings=type(configuration.integrations[name].settings).__name__)

    async def follow():
        configuration = load(folder)
        worker = Stations(configuration.integrations)
        reloader = Reloader(configuration, lambda: load(folder), Deliveries(worker, make, configuration, ()).apply)
        edit(folder, "integrations/ga4.yaml", "G-EXAMPLE123", "G-OTHER")
        edit(folder, "integrations/webhook.yaml", "kind: purchase", "kind: order")
        (folder / "integrations/file.yaml").unlink()
        more = (folder / "integrations/webhook.yaml").read_text().replace("integration: webhook", "integration: more")
        (folder / "integrations/more.yaml").write_text(more)
        await asyncio.to_thread(reloader.poll)
        first = worker.steps.copy()
        await asyncio.to_thread(reloader.poll)
        assert worker.steps == first
        lacking.clear()
        await asyncio.to_thread(reloader.poll)
        await asyncio.to_thread(reloader.poll)
        return first, worker.steps[len(first) :]

    assert asyncio.run(follow()) == (
        ["remove file", "remove ga4", "add ga4 Ga4Settings"],
        ["add more WebhookSettings"],
    )


def test_a_forwarder_follows_only_the_integrations_that_it_was_named(folder, monkeypatch):
    """A process for some integrations leaves the others to others."""
    monkeypatch.setattr("deploy.runtime.reload.find_mismatches", lambda *_: [])

    async def follow():
        configuration = load(folder)
        worker = Stations(["ga4"])
        reloader = Reloader(
            configuration, lambda: load(folder), Deliveries(worker, None, configuration, ("ga4",)).apply
        )
        (folder / "integrations/file.yaml").unlink()
        await asyncio.to_thread(reloader.poll)
        return worker.steps

    assert asyncio.run(follow()) == []


def test_the_hashes_are_of_names_and_content(folder):
    """Touching a file changes nothing; a new name, a new file and other content do."""
    first = file_hashes(folder)
    os.utime(folder / "turnout.yaml", (1, 1))
    assert file_hashes(folder) == first
    (folder / "sources/server.yaml").rename(folder / "sources/servers.yaml")
    second = file_hashes(folder)
    (folder / "integrations/table.yaml").write_text("a: b\n")
    third = file_hashes(folder)
    (folder / "plans/other.yaml").write_text("a: b\n")
    states = [first, second, third, file_hashes(folder)]
    assert [states.index(state) for state in states] == [0, 1, 2, 3]


@pytest.fixture(scope="module")
def broker():
    with tansu.running() as running:
        yield running


def test_a_running_router_takes_up_new_rules_and_survives_broken_ones(folder, broker):
    """A process gets new rules at SIGHUP, keeps them when the folder breaks, and still ends in order."""
    command = [Path(sys.executable).parent / "turnout"]
    there = {**os.environ, **DEMO, "TURNOUT_BROKER__BOOTSTRAP": broker.bootstrap, "TURNOUT_CONFIG": str(folder)}
    subprocess.run([*command, "topics", "--create"], env=there, check=True, capture_output=True, timeout=120)
    with subprocess.Popen([*command, "router"], env=there, stderr=subprocess.PIPE, text=True) as process:
        try:
            first = wait_for(process, "ready")["version"]
            edit(folder, "integrations/webhook.yaml", "kind: purchase", "kind: order")
            process.send_signal(signal.SIGHUP)
            second = wait_for(process, "applied the configuration")["version"]
            assert second != first
            edit(folder, "integrations/webhook.yaml", "kind: order", "kind: $.[")
            process.send_signal(signal.SIGHUP)
            assert wait_for(process, "invalid configuration; still using the previous version")["version"] == second
            process.terminate()
            process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == 0


def wait_for(process, event):
    """The next line of the log that says so."""
    for line in process.stderr:
        if line.startswith("{") and (said := json.loads(line))["event"] == event:
            return said
    raise AssertionError(f"the process ended and never said: {event}")


def test_a_router_reads_the_new_topics_of_sources(folder, monkeypatch):
    """It starts again once they are there, and once for each change; rules do not wait for it."""
    there = []
    monkeypatch.setattr(reload, "find_mismatches", lambda _, topics, __: [it for it in map(lacking, topics) if it])

    def lacking(topic):
        return None if topic.name in there else Mismatch(topic, None)

    configuration = load(folder)
    holder = CurrentRules(configuration.rule_set())
    restarts = []
    rules = RouterRules(holder, configuration, lambda: restarts.append(holder.current.sources.topics))
    reloader = Reloader(configuration, lambda: load(folder, "sources"), rules.apply)
    edit(folder, "sources/server.yaml", "source: server", "source: server\ntopics: [shop.orders]")
    with structlog.testing.capture_logs() as logs:
        reloader.poll()
        reloader.poll()
    assert [line["topic"] for line in logs if "does not exist" in line["event"]] == ["shop.orders"]
    assert (holder.current.sources.topics, restarts) == (["shop.orders"], [])
    there.append("shop.orders")
    reloader.poll()
    reloader.poll()
    edit(folder, "integrations/webhook.yaml", "kind: purchase", "kind: order")
    reloader.poll()
    assert restarts == [["shop.orders"]]
    edit(folder, "sources/server.yaml", "topics: [shop.orders]", "topics: []")
    reloader.poll()
    assert restarts == [["shop.orders"], []]


def test_a_source_remembers_once_the_topic_of_the_memory_exists(folder, monkeypatch):
    """The rules do not wait for the topic, and the log says once that it is missing."""
    there = []
    monkeypatch.setattr(
        reload, "find_mismatches", lambda _, topics, __: [Mismatch(it, None) for it in topics if it.name not in there]
    )
    monkeypatch.setenv("MEMORY_SECRET", "a secret of sixteen")
    with (folder / "turnout.yaml").open("a") as file:
        file.write("\nmemory: {secret: '${MEMORY_SECRET}'}\n")
    configuration = load(folder)
    holder = CurrentRules(configuration.rule_set())
    reloader = Reloader(configuration, lambda: load(folder, "sources"), RouterRules(holder, configuration).apply)
    edit(folder, "sources/server.yaml", "source: server", "source: server\nenrich: {memory: {consent: []}}")
    with structlog.testing.capture_logs() as logs:
        reloader.poll()
        reloader.poll()
    assert [line["topic"] for line in logs if "memory" in line["event"]] == ["turnout.memory"]
    assert holder.current.version == reloader.current.version
    assert holder.current.memory is None
    there.append("turnout.memory")
    reloader.poll()
    assert holder.current.memory is reloader.current.sources.memory is not None
