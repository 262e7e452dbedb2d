"""The source files in the documentation of sources work as documented."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy.cli.main import main
from transforms.documents import Document

PAGE = Path(__file__).parents[3] / "deploy" / "docs" / "sources.md"
FILES = re.findall(r"^```yaml\n(source:.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("text", FILES, ids=lambda text: text.split()[1])
def test_example(text, tmp_path):
    """Each file has no mistakes and no warnings, and its tests pass."""
    data = Document.parse(text, "example").data
    (tmp_path / "sources").mkdir()
    (tmp_path / "turnout.yaml").write_text("{}\n")
    (tmp_path / "sources" / f"{data['source']}.yaml").write_text(text)
    checked = json.loads(CliRunner().invoke(main, ["check", "--json", "--config", str(tmp_path)]).output)
    assert (checked["mistakes"], checked["warnings"]) == ([], [])
    tested = CliRunner().invoke(main, ["test", "--config", str(tmp_path)])
    if "tests" in data:
        assert tested.output.startswith(f"{len(data['tests'])} passed, 0 failed"), tested.output
