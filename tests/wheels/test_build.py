"""The wheels' content, and their requirements for an import."""

import os
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path

import orjson
import pytest

from tests.streams.tracking.helpers import FakeCollector, collecting
from tests.support.shadows import NAMES, write_shadows
from tests.wheels.environments import ROOT, VERSIONS, find_python, wheel

TRACKING = ROOT / "streams" / "tracking"
VERSION = tomllib.loads((TRACKING / "pyproject.toml").read_text())["project"]["version"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both wheels."""
    folder = tmp_path_factory.mktemp("built")
    for project in (TRACKING, ROOT):
        build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(project)]
        subprocess.run(build, check=True, capture_output=True)
    return folder


@pytest.fixture
def site(built: Path, tmp_path: Path) -> Path:
    """A folder to import from that has turnout-tracking and orjson."""
    with zipfile.ZipFile(wheel("turnout_tracking", built)) as archive:
        archive.extractall(tmp_path / "site")
    (tmp_path / "site" / "orjson").symlink_to(Path(orjson.__file__).parent)
    return tmp_path / "site"


def names(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def test_the_wheels_have_only_their_packages(built: Path):
    """The main wheel has Turnout's packages, the other one turnout_tracking, and neither has tests."""
    main, tracking = names(wheel("turnout", built)), names(wheel("turnout_tracking", built))
    assert {name.partition("/")[0] for name in main} == {*NAMES, f"turnout-{VERSION}.dist-info"}
    assert {name.partition("/")[0] for name in tracking} == {
        "turnout_tracking",
        f"turnout_tracking-{VERSION}.dist-info",
    }
    assert [name for name in main if name.startswith("streams/tracking/")] == ["streams/tracking/__init__.py"]
    tests = [name for name in main + tracking if "/test_" in name or name.endswith("conftest.py")]
    assert tests == []
    assert "turnout_tracking/py.typed" in tracking
    files = ("templates/base.html", "static/console.css", "static/vendor/htmx.js", "static/vendor/uplot.LICENSE")
    assert not [file for file in files if f"deploy/console/{file}" not in main]


def test_the_metadata(built: Path):
    """Turnout requires its own release of turnout-tracking, which requires orjson only; pytest loads nothing of it."""
    projects = [tomllib.loads((folder / "pyproject.toml").read_text())["project"] for folder in (ROOT, TRACKING)]
    assert projects[0]["version"] == projects[1]["version"]
    assert f"turnout-tracking=={projects[1]['version']}" in projects[0]["dependencies"]
    with zipfile.ZipFile(wheel("turnout_tracking", built)) as archive:
        metadata = message_from_bytes(archive.read(f"turnout_tracking-{VERSION}.dist-info/METADATA"))
    required = [each for each in metadata.get_all("Requires-Dist", []) if "extra ==" not in each]
    assert required == ["orjson>=3.10"]
    with zipfile.ZipFile(wheel("turnout", built)) as archive:
        assert b"pytest11" not in archive.read(f"turnout-{VERSION}.dist-info/entry_points.txt")


def test_an_app_needs_only_orjson(site: Path, tmp_path: Path):
    """Without any other installed package, beside an app's own `streams` and `deploy`, the middleware sends a page."""
    program = """
import sys
import deploy, streams, turnout_tracking
assert streams.OWNER == deploy.OWNER == "the project"
for name in turnout_tracking.__all__:
    getattr(turnout_tracking, name)
tracker = turnout_tracking.Tracker(sys.argv[1], "k", interval=0)
def app(environ, start):
    start("200 OK", [("Content-Type", "text/html")])
    return [b"<title>T</title>"]
environ = {"REQUEST_METHOD": "GET", "HTTP_USER_AGENT": "Mozilla/5.0", "HTTP_ACCEPT": "text/html"}
body = turnout_tracking.WsgiTracking(app, tracker)(environ, lambda *_: None)
assert list(body)
body.close()
assert tracker.flush(60)
"""
    collector: FakeCollector
    with collecting() as collector:
        ran = subprocess.run(
            [sys.executable, "-S", "-c", program, collector.url],
            cwd=write_shadows(tmp_path / "app"),
            env=os.environ | {"PYTHONPATH": str(site)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        assert [event["properties"]["title"] for event in collector.events] == ["T"]
        assert collector.events[0]["context"]["library"] == {"name": "turnout-tracking", "version": VERSION}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_supported_python_compiles_it(version: str, site: Path):
    """No file has syntax that a supported Python version lacks."""
    python = find_python(version)
    if python is None:
        pytest.skip(f"Python {version} is not installed")
    compiled = [python, "-m", "compileall", "-q", str(site / "turnout_tracking")]
    assert subprocess.run(compiled, check=False).returncode == 0


def test_pytest_in_a_project_with_its_own_deploy(tmp_path: Path):
    """Turnout in the environment does not disturb the tests of a project with a `deploy` package."""
    write_shadows(tmp_path)
    (tmp_path / "test_own.py").write_text("import deploy\n\n\ndef test_own():\n    assert deploy.OWNER\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "1 passed" in ran.stdout, ran.stdout + ran.stderr
