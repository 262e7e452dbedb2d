"""The enrichment `memory` in a configuration folder: its errors, its topic, and the memory that a test states."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from deploy.cli.main import main
from deploy.config.configuration import ConfigurationError, read_configuration

TURNOUT = "memory: {secret: '${MEMORY_SECRET}', days: 5}"
SERVER = "{source: server, enrich: {memory: {consent: []}}}"
META = """
integration: meta
forwarder: meta
preset: meta
settings: {pixel_id: '1', access_token: '${META_TOKEN}'}
tests:
  - event: {type: page, userId: u}
    source: server
    memory: {integrations: {meta: {fbp: fb.1.1790000000000.1}}}
    expect: {outcome: forwarded}
"""


def write(folder: Path, **files: str) -> Path:
    for name, text in {"turnout.yaml": TURNOUT, "sources/server.yaml": SERVER, **files}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_SECRET", "a secret of sixteen")
    monkeypatch.setenv("META_TOKEN", "t")


@pytest.mark.parametrize(
    ("files", "secret", "message"),
    [
        ({"turnout.yaml": "{}"}, "a secret of sixteen", "enrich.memory: the memory has no secret"),
        ({}, "short", "enrich.memory: memory.secret has fewer than 16 characters"),
        (
            {"sources/server.yaml": "{source: server, topics: [shop.orders], enrich: {memory: {consent: []}}}"},
            "a secret of sixteen",
            "enrich.memory: the source reads topics of other systems, whose partitions are not those of users",
        ),
        (
            {"sources/server.yaml": "{source: server, enrich: {memory: {}}}"},
            "a secret of sixteen",
            "the key 'enrich.memory.consent' is missing",
        ),
    ],
)
def test_mistakes_are_reported_at_the_enrichment(tmp_path, monkeypatch, files, secret, message):
    """With file, line and column; the secret is not in the message."""
    monkeypatch.setenv("MEMORY_SECRET", secret)
    with pytest.raises(ConfigurationError) as raised:
        read_configuration(write(tmp_path, **files))
    (error,) = raised.value.errors
    assert (error.message, Path(error.path).name) == (message, "server.yaml")
    assert error.line
    assert secret not in str(error)


def test_the_topic_is_needed_only_by_a_source_with_the_enrichment(tmp_path):
    """So an installation without it needs no new topic."""
    names = [topic.name for topic in read_configuration(write(tmp_path)).declared]
    assert "turnout.memory" in names
    without = read_configuration(write(tmp_path, **{"sources/server.yaml": "{source: server}"}))
    assert [topic.name for topic in without.declared] == [name for name in names if name != "turnout.memory"]
    assert without.rule_set().memory is None


def run(folder: Path, *arguments: str) -> Any:
    return CliRunner().invoke(main, [*arguments, "--config", str(folder)])


def test_a_test_states_the_memory_and_explain_says_that_it_has_none(tmp_path):
    """Both run the step that routers run."""
    write(tmp_path, **{"integrations/meta.yaml": META})
    assert run(tmp_path, "test", "--update").exit_code == 0
    updated = (tmp_path / "integrations" / "meta.yaml").read_text()
    assert run(tmp_path, "test").exit_code == 0
    meta = META.replace("expect: {outcome: forwarded}", "expect: {payload: {user_data: {}}}")
    write(tmp_path, **{"integrations/meta.yaml": meta})
    failed = run(tmp_path, "test")
    assert failed.exit_code == 1
    assert "fb.1.1790000000000.1" in failed.output
    write(tmp_path, **{"integrations/meta.yaml": updated})
    (tmp_path / "event.json").write_text(json.dumps({"type": "page", "userId": "u", "messageId": "m"}))
    explained = run(tmp_path, "explain", "--event", str(tmp_path / "event.json"), "--source", "server", "--json")
    steps = [step["step"] for step in json.loads(explained.output)["steps"]]
    assert "enrich.memory (empty here, as only routers read it)" in steps
