import re

import pytest
from click.testing import CliRunner

from deploy.cli.main import COMMANDS, main
from deploy.docsgen import reference


@pytest.mark.parametrize(
    ("file", "write"),
    [
        ("configuration.md", reference.configuration),
        ("commands.md", reference.commands),
        ("rules.md", reference.rules),
        ("enrichment.md", reference.enrichment),
        ("metrics.md", reference.metrics),
        ("http-api.md", reference.http_api),
        ("sources.md", reference.sources),
        ("architecture.md", reference.architecture),
    ],
)
def test_reference_is_up_to_date(file, write):
    """The reference pages match the code's declarations; `python -m deploy.docsgen.reference` writes them."""
    assert (reference.DOCS / file).read_text() == write()


def test_metrics_that_the_documentation_names_are_there():
    """Every name of a metric in a page is one that Prometheus gets."""
    table = set(re.findall(r"^\| `(turnout_\w+)`", reference.metrics(), re.MULTILINE))
    for page in reference.DOCS.glob("*.md"):
        named = set(
            re.findall(
                r"\bturnout_(?:collector|router|delivery|plan|lag|configuration|enrichment)\w*", page.read_text()
            )
        )
        assert {re.sub("_(bucket|sum|count)$", "", name) for name in named} <= table, page.name


def test_every_key_is_described():
    """No setting is without a description."""
    assert "| None |" not in reference.configuration() + reference.enrichment()


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command):
    """Each command loads, and explains itself and its options."""
    result = CliRunner().invoke(main, [command, "--help"])
    assert result.exit_code == 0
    assert result.output.startswith(f"Usage: main {command}")
