"""Which changes of an integration's file restart its delivery, and which do not."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from deploy.cli.options import load
from deploy.runtime.reload import Deliveries, Reloader
from streams.kafka.settings import BrokerError

INTEGRATION = {
    "integration": "one",
    "forwarder": "webhook",
    "settings": {"url": "https://example.com/"},
    "rules": [{"name": "bought", "when": 'event = "Bought"', "map": {"total": "$.properties.total"}}],
    "otherwise": "drop",
}


class Worker:
    """Notes which pipelines are stopped and started, and in which mode."""

    def __init__(self, *names: str) -> None:
        self.pipelines = [SimpleNamespace(name=name) for name in names]
        self.steps: list[str] = []

    async def add(self, pipeline: Any) -> None:
        self.steps.append(f"add {pipeline.name} {pipeline.mode}")

    async def remove(self, name: str) -> None:
        self.steps.append(f"remove {name}")


def write(folder: Path, name: str, **changes: Any) -> None:
    data = {**INTEGRATION, "integration": name, **changes}
    (folder / "integrations" / f"{name}.yaml").write_text(yaml.safe_dump(data))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A configuration folder with the integrations `one` and `two`."""
    for kind in ("sources", "integrations"):
        (tmp_path / kind).mkdir()
    (tmp_path / "turnout.yaml").write_text("prefix: turnout\n")
    (tmp_path / "sources/web.yaml").write_text("source: web\n")
    write(tmp_path, "one")
    write(tmp_path, "two")
    return tmp_path


def follow(folder: Path, *changes: dict[str, Any]) -> list[list[str]]:
    """What is stopped and started after each change of `one`'s file."""

    async def poll_each() -> list[list[str]]:
        configuration = load(folder)
        worker: Any = Worker("one", "two")

        def make(name: str, configuration: Any) -> Any:
            return SimpleNamespace(name=name, mode=configuration.integrations[name].mode)

        reloader = Reloader(configuration, lambda: load(folder), Deliveries(worker, make, configuration, ()).apply)
        found = []
        for change in changes:
            write(folder, "one", **change)
            await asyncio.to_thread(reloader.poll)
            found.append(worker.steps.copy())
            worker.steps.clear()
        return found

    return asyncio.run(poll_each())


def test_a_new_mode_restarts_the_delivery(folder: Path):
    """An integration set to `shadow` stops sending, and one set back to `live` sends again."""
    assert follow(folder, {"mode": "shadow"}, {"mode": "shadow"}, {"mode": "live"}, {}) == [
        ["remove one", "add one shadow"],
        [],
        ["remove one", "add one live"],
        [],
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {"url": "https://example.org/"}},
        {"settings": {"url": "https://example.com/", "headers": {"x-team": "b"}}},
        {"delivery": {"concurrency": 3}},
        {"delivery": {"retry_for": 60}},
        {"delivery": {"ordered": True}},
        {"mode": "shadow"},
        {"forwarder": "klaviyo", "settings": {"api_key": "${ONE_KEY}"}, "rules": []},
    ],
)
def test_what_concerns_sending_restarts_the_delivery(
    folder: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
):
    """The vendor, its settings, how it is delivered to, and the mode: that integration alone begins again, once."""
    monkeypatch.setenv("ONE_KEY", "k")
    first, second = follow(folder, change, change)
    assert [step.rpartition(" ")[0] or step for step in first] == ["remove", "add one"]
    assert second == []


@pytest.mark.parametrize(
    "change",
    [
        {"rules": []},
        {"otherwise": {"all": "$"}},
        {"sources": ["web"]},
        {"consent": {"all": ["ads"]}},
        {"sample": {"rate": 0.5}},
        {"state": "draining"},
        {"settings": {"url": "https://example.com/"}, "mode": "live"},
    ],
)
def test_what_concerns_routing_leaves_the_delivery_alone(folder: Path, change: dict[str, Any]):
    """What the router decides needs no restart, and so does a file that says the same in other words."""
    assert follow(folder, change) == [[]]


def test_a_delivery_that_cannot_begin_yet_begins_later(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """While Kafka does not answer a new integration waits; those that run are left alone."""
    answers: list[list[Any]] = []

    def find_mismatches(*_: Any) -> list[Any]:
        if not answers:
            raise BrokerError("Kafka does not answer")
        return answers[0]

    monkeypatch.setattr("deploy.runtime.reload.find_mismatches", find_mismatches)
    write(folder, "three")
    (folder / "integrations/three.yaml").rename(folder / "three")

    async def run() -> list[str]:
        configuration = load(folder)
        worker: Any = Worker("one", "two")

        def make(name: str, configuration: Any) -> Any:
            return SimpleNamespace(name=name, mode=configuration.integrations[name].mode)

        reloader = Reloader(configuration, lambda: load(folder), Deliveries(worker, make, configuration, ()).apply)
        (folder / "three").rename(folder / "integrations/three.yaml")
        await asyncio.to_thread(reloader.poll)
        assert worker.steps == []
        answers.append([])
        await asyncio.to_thread(reloader.poll)
        await asyncio.to_thread(reloader.poll)
        return list(worker.steps)

    assert asyncio.run(run()) == ["add three live"]
