"""Which enrichments there are: Turnout's in their order, and those of other packages."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from streams.steps.enrichment import registry
from tests.support import plugin_install

PLUGIN = Path(__file__).parent / "plugin"
DOCUMENT = Path(__file__).parents[4] / "deploy" / "docs" / "enrichment.md"

EVENT = {"type": "track", "event": "Seen", "userId": "u-1", "timestamp": "2026-01-02T03:04:05Z"}


def test_the_document_has_all_in_their_order():
    """Each enrichment has a chapter, in the order in which they run, and a line in the table of costs."""
    text = DOCUMENT.read_text()
    names = [enrichment.name for enrichment in registry.BUILT_IN]
    assert [title for title in re.findall(r"^## (\w+)$", text, re.MULTILINE) if title in names] == names
    assert re.findall(r"^\| `(\w+)` \| [0-9.]+ \| [0-9.]+ \|$", text, re.MULTILINE) == names


def test_a_package_of_ones_own(tmp_path):
    """A package that declares an enrichment has only to be installed: the example of the documentation, whole."""
    (block,) = re.findall(r"```python\n# turnout_seasons/__init__.py\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert (PLUGIN / "turnout_seasons" / "__init__.py").read_text() == block
    plugin_install.install(tmp_path / "site", PLUGIN)
    (tmp_path / "sources").mkdir()
    (tmp_path / "turnout.yaml").write_text("{default_source: web}")
    (tmp_path / "sources" / "web.yaml").write_text("{source: web, enrich: {season: {southern: true}}}")
    (tmp_path / "event.json").write_text(json.dumps(EVENT))
    command = [sys.executable, "-m", "deploy.cli.main", "explain", "--config", ".", "--event", "event.json", "--json"]
    path = os.pathsep.join(str(each) for each in (tmp_path / "site", Path.cwd()))
    environment = os.environ | {"PYTHONPATH": path}
    ran = subprocess.run(command, cwd=tmp_path, env=environment, check=False, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (step,) = [each for each in json.loads(ran.stdout)["steps"] if each["step"] == "enrich.season"]
    assert step["fields"] == [{"field": "context", "after": {"season": "summer"}}]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("no_such_module:GONE", "the enrichment 'own' cannot be loaded from no_such_module:GONE: No module named"),
        (
            "streams.steps.enrichment.geo:make",
            "the enrichment 'own': streams.steps.enrichment.geo:make is not an Enrichment",
        ),
    ],
)
def test_what_an_entry_point_names_must_be_an_enrichment(monkeypatch, value, message):
    """An unusable enrichment is refused with the reason."""
    point = EntryPoint("own", value, registry.GROUP)
    monkeypatch.setattr(registry, "_points", lambda: {"own": point})
    registry.find.cache_clear()
    with pytest.raises(registry.UnknownEnrichmentError) as refused:
        registry.find("own")
    assert str(refused.value).startswith(message)
