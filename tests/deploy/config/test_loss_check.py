"""What `turnout check` says of rules that would lose data without a word."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy.cli.main import main
from deploy.config.configuration import read_configuration
from deploy.config.known_names import KnownNames
from deploy.config.loss_check import check_losses
from forwarders import registry
from streams.steps.plan import Plan
from transforms import read_rules
from transforms.documents import Document

EXAMPLE = Path("deploy/example").resolve()
TABLE = Document.read(Path("tests/cases/rules/losses.yaml").resolve()).data
PLAN = Plan.model_validate(
    {
        "plan": "shop",
        "definitions": {"order": {"properties": {"voucher": {}}}},
        "events": [
            {"event": "Basket Filled", "properties": {"properties": {"basketSize": {"type": "integer"}}}},
            {"event": "Basket Paid", "properties": {"$ref": "#/definitions/order"}},
        ],
    }
)


def check(text, **options):
    rules, errors = read_rules(Document.parse(text, "rules.yaml"))
    assert not errors, errors[0]
    return check_losses(rules, KnownNames.of([PLAN]), **options)


@pytest.mark.parametrize("row", TABLE, ids=[json.dumps(row["rule"])[:80] for row in TABLE])
def test_losses(row):
    """Each rule of the table has the findings beside it, with the hint, and no other."""
    findings = check(json.dumps({"rules": [{"map": {}, **row["rule"]}]}))
    found = {"mistakes": findings.errors, "warnings": findings.warnings}
    expected = {kind: row.get(kind, []) for kind in found}
    assert {kind: [f"{it.message} ({it.hint})" for it in each] for kind, each in found.items()} == expected


def test_a_finding_has_its_place():
    """A type or name in a condition is pointed at, and a value where it is."""
    text = """rules:
  - when: event = "Order Complete" and type = "trak"
    map:
      a: $.properties.totl
      b: {"@number": {"@default": [$.a, $.b]}}
"""
    findings = check(text)
    assert [(it.line, it.column) for it in findings.errors] == [(2, 47)]
    assert [(it.line, it.column) for it in findings.warnings][:2] == [(2, 19), (4, 10)]
    assert (5, 11) in [(it.line, it.column) for it in findings.warnings]


def test_a_webhook_has_fields_of_its_own():
    """Of rules that make events of requests, only texts and casts are checked."""
    text = """rules:
  - when: 'body.type = "charge" and type = "x"'
    map: {a: $.body.totl, b: 'x {{ y', c: $.properties.totl}
"""
    findings = check(text, of_events=False)
    assert [it.message for it in findings.warnings] == ["`{{` is not closed, so that nothing is filled in"]
    assert not findings.errors


@pytest.mark.parametrize("name", registry.names())
def test_presets_lose_nothing(name):
    """No preset has a finding."""
    preset = registry.find(name).preset()
    if preset is None:
        pytest.skip("it has none")
    rules, _ = read_rules(Document.parse(preset.read_bytes(), f"{name}.yaml"))
    findings = check_losses(rules, KnownNames.of())
    assert [*findings.errors, *findings.warnings] == []


def test_the_example_has_no_warnings():
    """Nothing is found in the example."""
    assert [*read_configuration(EXAMPLE).warnings] == []


def test_a_folder_without_a_source(tmp_path):
    """It is warned that no event comes in."""
    (tmp_path / "turnout.yaml").write_text("prefix: t")
    result = CliRunner().invoke(main, ["check", "--config", str(tmp_path)])
    assert "no sources, so that no events are accepted (add sources/NAME.yaml with a write key)" in result.output
    assert result.exit_code == 0


@pytest.mark.parametrize(
    ("forwarder", "settings", "module", "extra"),
    [
        ("postgres", {"dsn": "${PG}", "table": "public.events"}, "psycopg", "postgres"),
        ("object_storage", {"url": "s3://b/x"}, "obstore", "object-storage"),
        ("object_storage", {"url": "file:///x"}, "pyarrow", "object-storage"),
        ("object_storage", {"url": "file:///x", "format": "ndjson.gz"}, None, None),
    ],
)
def test_a_library_that_is_not_installed(tmp_path, monkeypatch, forwarder, settings, module, extra):
    """A forwarder whose library is missing is warned of, with the command that installs it."""
    shutil.copytree(EXAMPLE, tmp_path, dirs_exist_ok=True)
    file = {"integration": "x", "forwarder": forwarder, "preset": forwarder, "settings": settings}
    (tmp_path / "integrations" / "x.yaml").write_text(json.dumps(file))
    monkeypatch.setattr("forwarders.api.extras.find_spec", lambda _: None)
    result = CliRunner().invoke(main, ["check", "--config", str(tmp_path)])
    warned = f"{forwarder} needs {module}, which is not installed here (pip install 'turnout[{extra}]')"
    assert (warned in result.output) is (module is not None)
