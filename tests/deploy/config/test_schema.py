"""`turnout schema` and `turnout new integration`."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from jsonschema import Draft7Validator

from deploy.cli.main import main
from deploy.config.configuration import read_configuration
from deploy.config.schema import SCHEMAS
from forwarders import registry
from transforms.documents import Document

EXAMPLE = Path("deploy/example").resolve()
INTEGRATION = Draft7Validator(SCHEMAS["integration"]())
RULE = {"integration": "x", "forwarder": "meta", "settings": {"pixel_id": "1", "access_token": "${T}"}}


def mistakes(data, validator=INTEGRATION):
    return [".".join(map(str, error.absolute_path)) for error in validator.iter_errors(data)]


@pytest.mark.parametrize("kind", SCHEMAS)
def test_each_kind_is_a_json_schema(kind):
    """The command prints a schema that is one."""
    result = CliRunner().invoke(main, ["schema", kind])
    Draft7Validator.check_schema(json.loads(result.output))


@pytest.mark.parametrize("path", sorted(EXAMPLE.glob("*s/*.yaml")), ids=lambda path: path.stem)
def test_the_example_is_valid(path):
    """The example's files match the schema."""
    kind = path.parent.name.removesuffix("s")
    assert mistakes(Document.read(path).data, Draft7Validator(SCHEMAS[kind]())) == []


def test_the_examples_settings_are_valid():
    """So is its turnout.yaml."""
    assert mistakes(Document.read(EXAMPLE / "turnout.yaml").data, Draft7Validator(SCHEMAS["turnout"]())) == []


@pytest.mark.parametrize("name", registry.names())
def test_presets_are_valid(name):
    """Every preset matches the schema of its forwarder's payload."""
    preset = registry.find(name).preset()
    if preset is None:
        pytest.skip("it has none")
    data = Document.parse(preset.read_bytes(), "preset.yaml").data
    found = mistakes({"integration": "x", "forwarder": name, **data})
    assert found == []


@pytest.mark.parametrize(
    ("more", "where"),
    [
        ({"rules": [{"map": {"event_nam": "x"}}]}, "rules.0.map"),
        ({"rules": [{"map": {"user_data": {"emial": "$.x"}}}]}, "rules.0.map"),
        ({"map": {"event_name": {"@numbr": 1}}}, "map"),
        ({"rules": [{"whn": "x"}]}, "rules.0"),
        ({"settings": {"pixel_id": "1", "access_token": "plain"}}, "settings.access_token"),
        ({"settings": {"pixel": "1", "access_token": "${T}"}}, "settings"),
        ({"forwarder": "mta"}, "forwarder"),
        ({"preset": "ga4"}, "preset"),
        ({"otherwise": "send"}, "otherwise"),
        ({"sampel": {}}, ""),
    ],
)
def test_what_is_wrong_is_underlined(more, where):
    """Unknown fields of payload, rule, settings and file, secrets that are written out, and wrong names."""
    assert where in mistakes({**RULE, **more})


def test_right_values_of_all_kinds():
    """A path, template, directive, constant, `@remove` or variable is accepted as a value."""
    data = {
        **RULE,
        "settings": {"pixel_id": "${PIXEL}", "access_token": "${T}"},
        "map": {"event_time": {"@date": "$.timestamp"}, "user_data": {"em": {"@remove": True}, "db": "{{traits.b}}"}},
        "rules": [{"name": "a", "when": 'event = "x"', "map": {"event_name": "x", "custom_data": "$.properties"}}],
        "otherwise": "drop",
    }
    assert mistakes(data) == []


@pytest.fixture
def example(tmp_path):
    return shutil.copytree(EXAMPLE, tmp_path / "example")


def new(folder, name, forwarder):
    return CliRunner().invoke(main, ["new", "integration", name, "--forwarder", forwarder, "--config", str(folder)])


@pytest.mark.parametrize("forwarder", registry.names())
def test_a_new_integration_has_no_mistakes(example, forwarder):
    """The new file reads without a mistake, wants its settings from the environment, and names a schema beside it."""
    assert new(example, "fresh", forwarder).exit_code == 0
    assert read_configuration(example).integrations["fresh"].forwarder is registry.find(forwarder)
    path = example / "integrations/fresh.yaml"
    first = path.read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=../.schema/integration.json"
    schema = json.loads((path.parent / first.partition("=")[2]).read_text())
    assert mistakes(Document.read(path).data, Draft7Validator(schema)) == []


def test_nothing_is_overwritten(example):
    """A file that is there stays as it is, and the exit code is 1."""
    before = (example / "integrations/ga4.yaml").read_text()
    result = new(example, "ga4", "meta")
    assert (result.exit_code, (example / "integrations/ga4.yaml").read_text()) == (1, before)


@pytest.mark.parametrize(
    ("name", "forwarder", "message"),
    [
        ("Big Name", "ga4", "'Big Name' is not a valid name"),
        ("../x", "ga4", "'../x' is not a valid name"),
        ("one", "ga5", "no forwarder is called 'ga5' (did you mean 'ga4'?)"),
    ],
)
def test_wrong_use(example, name, forwarder, message):
    """A name that cannot be one and a forwarder that there is not: one line, exit code 2."""
    result = new(example, name, forwarder)
    assert result.exit_code == 2
    assert message in result.output
