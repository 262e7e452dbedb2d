import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from dotenv import dotenv_values

from deploy.cli.main import main
from deploy.config.configuration import ConfigurationError, read_configuration
from streams.records.outcomes import Outcome
from streams.steps.step import Blocked, run_steps

CASES = sorted(path.parent for path in Path("tests/cases/configuration").resolve().glob("*/expected.txt"))
EXAMPLE = Path("deploy/example").resolve()


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch):
    for name in ("WEB_WRITE_KEY", "SERVER_WRITE_KEY", "WEBHOOK_TOKEN", "GA4_API_SECRET", "HOOK_TOKEN", "HOOK_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def example(tmp_path):
    """A copy of the example's folder."""
    return shutil.copytree(EXAMPLE, tmp_path / "example")


def set_all(monkeypatch):
    for name, value in dotenv_values(EXAMPLE / "demo.env").items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_mistakes(case, monkeypatch):
    """Each broken folder gives exactly the mistakes that are written down beside it, and exit code 2."""
    monkeypatch.chdir(case)
    for name, value in dotenv_values("environment.env").items():
        monkeypatch.setenv(name, value)
    result = CliRunner().invoke(main, ["check"])
    assert result.output == (case / "expected.txt").read_text()
    assert result.exit_code == 2


def test_example_without_environment(example):
    """The example has no mistakes, and says which variables its workers will want."""
    configuration = read_configuration(example)
    assert {unset.variable for unset in configuration.unset} == set(dotenv_values(EXAMPLE / "demo.env"))


def test_secrets_come_from_the_environment(example, monkeypatch):
    """`${NAME}` is replaced in settings and write keys, and no output shows a secret."""
    set_all(monkeypatch)
    configuration = read_configuration(example)
    assert not configuration.unset
    assert configuration.sources.find("demo-web").name == "web"
    assert configuration.integrations["ga4"].settings.api_secret.get_secret_value() == "demo-secret"
    secrets = [value for value in dotenv_values(EXAMPLE / "demo.env").values() if not value.startswith("http")]
    assert secrets
    assert not any(value in repr(configuration) for value in secrets)


def test_unset_write_key_opens_nothing(example):
    """A write key whose variable is not set accepts no request, not even with its placeholder."""
    sources = read_configuration(example).sources
    assert sources.find("***") is None
    assert sources.find("") is None


def test_environment_wins_over_the_file(example, monkeypatch):
    """A variable TURNOUT_… overrides a key of turnout.yaml, even a nested one, and no other keys."""
    monkeypatch.setenv("TURNOUT_COLLECTOR__PORT", "9000")
    monkeypatch.setenv("TURNOUT_PARTITIONS", "2")
    settings = read_configuration(example).settings
    assert (settings.collector.port, settings.collector.host, settings.partitions) == (9000, "127.0.0.1", 2)


def test_embedded_broker_is_told_apart(example):
    """With the embedded broker idempotence is off, and without it on."""
    assert not read_configuration(example).settings.broker.idempotent
    text = (example / "turnout.yaml").read_text()
    (example / "turnout.yaml").write_text(text.replace("embedded: true", "embedded: false"))
    assert read_configuration(example).settings.broker.idempotent


def test_shared_write_key(example, monkeypatch):
    """Two sources with one write key are refused by name, and the key is not shown."""
    set_all(monkeypatch)
    monkeypatch.setenv("WEB_WRITE_KEY", "demo-server")
    with pytest.raises(ConfigurationError) as caught:
        read_configuration(example)
    assert "sources server and web share a write key" in str(caught.value)
    assert "demo-server" not in str(caught.value)


def test_unknown_default_source(example, monkeypatch):
    """A default source that no file declares is refused."""
    monkeypatch.setenv("TURNOUT_DEFAULT_SOURCE", "sever")
    with pytest.raises(ConfigurationError, match="the default source sever is not declared"):
        read_configuration(example)


@pytest.mark.parametrize(
    ("file", "changes"),
    [("integrations/webhook.yaml", True), ("plans/shop.yaml", True), ("sources/server.yaml", False)],
)
def test_version_is_that_of_the_rules(example, file, changes):
    """The version changes with a file of rules or plans and with nothing else, and has 12 digits."""
    before = read_configuration(example).version
    with (example / file).open("a") as appended:
        appended.write("# a word more\n")
    after = read_configuration(example).version
    assert (after != before) is changes
    assert len(after) == 12


def test_draining_integration_takes_nothing_new(example):
    """An integration that is draining keeps its topic, and its route blocks every event with an outcome of its own."""
    with (example / "integrations/webhook.yaml").open("a") as file:
        file.write("state: draining\n")
    configuration = read_configuration(example)
    (route,) = (route for route in configuration.rule_set().routes if route.integration == "webhook")
    assert [check({}, None) for check in route.checks] == [Blocked(Outcome.DRAINING)]
    assert configuration.topics.forward("webhook") in {
        topic.name for topic in configuration.topics.declared(configuration.integrations)
    }


def test_missing_folder():
    """A folder that does not exist is one mistake."""
    result = CliRunner().invoke(main, ["check", "--config", "/nowhere"])
    assert result.output == "/nowhere: the folder does not exist\n1 error\n"
    assert result.exit_code == 2


def test_rules_of_a_source(example):
    """A source's rules are read, checked and part of the version."""
    before = read_configuration(example).version
    path = example / "sources/server.yaml"
    path.write_text(path.read_text() + 'rules: [{when: event = "a", map: {event: b}}]\n')
    configuration = read_configuration(example)
    assert configuration.version != before
    repair, _ = configuration.sources.by_name("server").steps
    assert repair({"type": "track", "event": "a", "userId": "u"}, lambda *_: None)["event"] == "b"
    path.write_text(path.read_text() + "otherwise: keep\n")
    with pytest.raises(ConfigurationError, match="otherwise is drop or a map, not 'keep'"):
        read_configuration(example)


def test_a_suppressed_user_is_known_by_an_id_that_enrichments_clean(example):
    """An ID whose quotes the enrichment `identity` removes also matches the suppressed user."""
    with (example / "turnout.yaml").open("a") as file:
        file.write("\nsuppression: {file: suppressed.txt}\n")
    (example / "suppressed.txt").write_text("u-1\n")
    (example / "sources" / "clean.yaml").write_text("source: clean\nenrich: {identity: {}}\n")
    source = read_configuration(example).sources.by_name("clean")
    event = {"type": "track", "event": "a", "userId": '"u-1"', "messageId": "m"}
    assert run_steps(source.steps, event, lambda *_: None) == Blocked(Outcome.SUPPRESSED)
    assert run_steps(source.steps, {**event, "userId": '"u-2"'}, lambda *_: None)["userId"] == "u-2"


def test_a_long_retention_is_warned_of(example):
    """More than 30 days of personal data lead to a warning at the key, for topics and for the ledger."""
    path = example / "turnout.yaml"
    text = path.read_text()
    path.write_text(f"{text}retention_days: 7\nledger: {{retention_days: 30}}\n")
    assert not [it for it in read_configuration(example).warnings if "retention_days" in str(it)]
    path.write_text(f"{text}retention_days: 31\nledger: {{retention_days: 45}}\n")
    warnings = [str(it).partition(": ")[2] for it in read_configuration(example).warnings]
    assert [it.partition(" (")[0] for it in warnings if "retention_days" in it] == [
        "retention_days: events are kept for 31 days",
        "retention_days: dead letters and rejected events are kept for 124 days",
        "ledger.retention_days: events are kept for 45 days",
    ]
