"""Rules held against the payload model of their forwarder."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy.cli.main import main
from deploy.config.payload_check import check_payload
from forwarders import registry
from transforms import read_rules
from transforms.documents import Document

CASES = Path(__file__).parents[2] / "cases" / "rules" / "invalid" / "payload"


def check(document):
    data = document.data
    forwarder = registry.find(data["forwarder"])
    rules, errors = read_rules(document)
    assert not errors, errors[0]
    return check_payload(rules, forwarder.contract)


@pytest.mark.parametrize("path", sorted(CASES.glob("*.yaml")), ids=lambda path: path.stem)
def test_mistakes(path):
    """Each mistake has its place and exact text."""
    findings = check(Document.parse(path.read_bytes(), path.name))
    assert "".join(f"{error}\n" for error in findings.errors) == path.with_suffix(".txt").read_text()


@pytest.mark.parametrize("name", registry.names())
def test_presets_are_as_their_vendors_want_them(name):
    """No preset has a mistake, or a path that its events do not have."""
    preset = registry.find(name).preset()
    if preset is None:
        pytest.skip("it has none")
    rules, _ = read_rules(Document.parse(preset.read_bytes(), f"{name}.yaml"))
    findings = check_payload(rules, registry.find(name).contract)
    assert (findings.errors, findings.warnings) == ([], [])


WARNED = """
forwarder: webhook
map: {shared: $.properties.x, never: $.proprties.x}
rules:
  - name: one
    when: type = "identify"
    map: {a: $.traits.email, b: $.properties.plan, c: {"@each": [$.traits.list, $.anything]}, d: '{{tratis.x}}'}
  - name: two
    when: type in ["track", "page"] or type = "screen"
    map: {a: $.traits.email, b: $.event, c: $.context.x, d: $.userId}
  - {name: three, map: {a: $.groupId, b: $.previousId, c: $}}
"""


def test_paths_that_no_event_has():
    """A path whose events, by the rule's condition, cannot have it is a warning, unless another rule shares it."""
    warnings = [f"{it.line}: {it.message} ({it.hint})" for it in check(Document.parse(WARNED, "w.yaml")).warnings]
    assert warnings == [
        "3: no event of the spec has '$.proprties' (did you mean 'properties'?)",
        "7: no identify event of the spec has '$.properties' (page and screen and track events have it)",
        "7: no identify event of the spec has '$.tratis' (did you mean 'traits'?)",
        "10: no event of the spec has '$.traits' (group and identify events have it)",
    ]


def test_check_shows_warnings_and_goes_on(tmp_path, monkeypatch):
    """`turnout check` prints a warning with its line, in JSON too, and gives exit code 0."""
    monkeypatch.chdir(tmp_path)
    Path("turnout.yaml").write_text("prefix: t\n")
    Path("integrations").mkdir()
    Path("sources").mkdir()
    Path("sources/web.yaml").write_text("source: web\nwrite_keys: ['${KEY}']\n")
    rule = "rules: [{map: {a: $.proprties.x}}]\n"
    Path("integrations/w.yaml").write_text(
        f"integration: w\nforwarder: webhook\nsettings: {{url: 'https://a.example/'}}\n{rule}"
    )
    result = CliRunner().invoke(main, ["check"])
    assert result.exit_code == 0
    assert result.output.splitlines()[:3] == [
        "warning: integrations/w.yaml:4:19: no event of the spec has '$.proprties' (did you mean 'properties'?)",
        "  | rules: [{map: {a: $.proprties.x}}]",
        "  |                   ^",
    ]
    warnings = json.loads(CliRunner().invoke(main, ["check", "--json"]).output)["warnings"]
    assert [(each["line"], each["column"]) for each in warnings] == [(4, 19)]
