"""The examples in the documentation of rules run as documented."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy.cli.main import main
from transforms import compile_condition, compile_mapping
from transforms.directives import DIRECTIVES
from transforms.documents import Document

DOCS = Path(__file__).parents[3] / "deploy" / "docs"
EXAMPLE = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)
HOOK = "integration: example\nforwarder: webhook\nsettings: {url: 'https://hooks.example/in'}\n"


def examples():
    for path in (DOCS / "rules.md", DOCS / "coming-from.md", DOCS / "consent.md"):
        text = path.read_text()
        for match in EXAMPLE.finditer(text):
            yield pytest.param(match[1], id=f"{path.name}:{text.count(chr(10), 0, match.start()) + 1}")


@pytest.mark.parametrize("example", list(examples()))
def test_example(example, tmp_path):
    """Each example is a whole file, or the rules of one, without mistakes and warnings; its tests pass."""
    data = Document.parse(example, "example").data
    files = {"turnout.yaml": "prefix: t\n", "sources/web.yaml": "source: web\n"}
    if "prefix" in data:
        files["turnout.yaml"] = example
    elif "source" in data:
        files["sources/web.yaml"] = example
    else:
        files["integrations/example.yaml"] = example if "forwarder" in data else HOOK + example
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    checked = CliRunner().invoke(main, ["check", "--json", "--config", str(tmp_path)])
    found = json.loads(checked.output)
    assert (found["mistakes"], found["warnings"]) == ([], [])
    if "prefix" in data or ("consent" in data and "source" in data):
        return
    assert data["tests"]
    tested = CliRunner().invoke(main, ["test", "--config", str(tmp_path)])
    assert tested.output.startswith(f"{len(data['tests'])} passed, 0 failed"), tested.output


@pytest.mark.parametrize("name", DIRECTIVES)
def test_every_directive_is_documented(name):
    """Each directive has a row in the table."""
    assert f"`{name}`" in (DOCS / "rules.md").read_text()


def test_segments_mapping_works_as_it_is():
    """The mapping that the page shows in Segment's words takes and maps the event of Turnout's own example."""
    text = (DOCS / "coming-from.md").read_text()
    segment = json.loads(re.search(r"^```json\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[1])
    (case,) = Document.parse(EXAMPLE.search(text)[1], "example").data["tests"]
    assert compile_condition(segment["subscribe"])(case["event"])
    assert compile_mapping(segment["mapping"])(case["event"]) == {
        **case["expect"]["payload"],
        "total": "9.50",
        "email": "Ada@example.com",
    }
