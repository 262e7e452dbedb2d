"""`turnout init`, `turnout new source` and `turnout new plan`."""

import re
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from dotenv import dotenv_values
from jsonschema import Draft7Validator

from deploy.cli.main import main
from deploy.config.configuration import read_configuration
from deploy.config.schema import SCHEMAS
from deploy.runtime.sample_event import ORDER, choose_sample
from transforms.documents import Document


def turnout(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A new folder."""
    assert turnout("init", tmp_path / "shop").exit_code == 0
    return tmp_path / "shop"


def test_a_new_folder_is_valid_and_its_tests_pass(folder: Path):
    """It has no errors and no warnings, and the integration's tests reach the HTTP request."""
    assert turnout("check", folder).output.startswith(f"{folder}: no errors in 1 source, 1 integration, 1 rule ")
    assert "warning" not in turnout("check", folder).output
    assert turnout("test", "--config", folder).output.startswith("2 passed, 0 failed")
    assert not read_configuration(folder).warnings


def test_every_variable_has_a_value_that_only_the_owner_can_read(folder: Path):
    """.env has the variables of the folder, with new random secrets; git ignores it."""
    values = dotenv_values(folder / ".env")
    assert {unset.variable for unset in read_configuration(folder).unset} <= values.keys()
    assert stat.S_IMODE((folder / ".env").stat().st_mode) == 0o600
    assert ".env" in (folder / ".gitignore").read_text().splitlines()
    assert turnout("init", folder.parent / "other").exit_code == 0
    other = dotenv_values(folder.parent / "other" / ".env")
    assert {name for name, value in values.items() if value == other[name]} == {"ORDERS_URL"}


def test_the_printed_event_passes_the_plan(folder: Path):
    """The event that `turnout up` shows how to send is forwarded, and the plan has nothing to note."""
    assert choose_sample(read_configuration(folder), "web") is ORDER


def test_the_printed_event_comes_from_a_rule_test_if_the_plan_does_not_know_orders(folder: Path):
    """A folder with other events shows one of its own, without the fields that would make it a repetition."""
    plan, integration = folder / "plans" / "shop.yaml", folder / "integrations" / "orders.yaml"
    plan.write_text(plan.read_text().replace("Order Completed", "Signed Up").replace("required: [order_id, total]", ""))
    text = integration.read_text().replace("Order Completed", "Signed Up")
    integration.write_text(text.replace("{type: track,", "{type: track, messageId: m-1,"))
    sample = choose_sample(read_configuration(folder), "web")
    assert sample["event"] == "Signed Up"
    assert "messageId" not in sample


def test_a_folder_with_files_is_left_alone(folder: Path):
    """`init` writes nothing into a folder that is not empty."""
    before = {path: path.read_text() for path in folder.rglob("*") if path.is_file()}
    result = turnout("init", folder)
    assert (result.exit_code, result.output) == (1, f"turnout: {folder} is not empty\n")
    assert before == {path: path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_new_source_and_plan(folder: Path):
    """They are valid, name their schema, and the source's new write key is printed."""
    assert turnout("new", "plan", "app", "--config", folder).exit_code == 0
    result = turnout("new", "source", "my-app", "--plan", "app", "--config", folder)
    assert re.search(r"MY_APP_WRITE_KEY=[\w-]{32}$", result.output.strip())
    configuration = read_configuration(folder)
    assert configuration.source_files["my-app"].plan == "app"
    assert not configuration.warnings
    for path, kind in ((folder / "plans" / "app.yaml", "plan"), (folder / "sources" / "my-app.yaml", "source")):
        assert list(Draft7Validator(SCHEMAS[kind]()).iter_errors(Document.read(path).data)) == []
        assert path.read_text().startswith(f"# yaml-language-server: $schema=../.schema/{kind}.json\n")
        assert (folder / ".schema" / f"{kind}.json").is_file()


def test_an_unknown_plan_is_named(folder: Path):
    """A source of a plan that the folder does not have is not written."""
    result = turnout("new", "source", "app", "--plan", "shpo", "--config", folder)
    assert "no plan is called 'shpo' (did you mean 'shop'?)" in result.output
    assert not (folder / "sources" / "app.yaml").exists()
