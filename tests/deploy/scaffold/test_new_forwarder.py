"""A new forwarder's package works unchanged, and is the one in the documentation."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy.cli.main import main
from deploy.conformance.checks import CHECKS
from deploy.conformance.golden import EVENTS
from deploy.docsgen.reference import DOCS
from deploy.scaffold.scaffold import TEMPLATE
from tests.support import plugin_install

NAME = "big_corp"
EXAMPLE = Path("deploy/example").resolve()
CHECKED = len(CHECKS) + sum(len(variants) for variants in EVENTS.values())


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The package of a new forwarder, and the folder that it is installed in."""
    folder = tmp_path_factory.mktemp("new") / "turnout-big-corp"
    result = CliRunner().invoke(main, ["new", "forwarder", NAME, "--folder", str(folder)])
    assert result.exit_code == 0, result.output
    plugin_install.install(folder.parent / "site", folder)
    return folder


def run(package: Path, *command: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(package.parent / "site")}
    ran = subprocess.run(
        [sys.executable, "-m", *command], cwd=package, env=environment, check=False, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_passes_every_check(package):
    """What is written lacks nothing."""
    assert run(package, "deploy.cli.main", "conformance", NAME).endswith(f"{CHECKED} passed, 0 failed\n")


def test_pytest_finds_the_checks(package):
    """In a package of its own, pytest runs the checks by Turnout's plug-in, and nothing else is needed."""
    assert f"{CHECKED} passed" in run(package, "pytest", "-q", "-p", "no:cacheprovider")


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("deploy.cli.main", "check", "--config", "conf"), 2),
        (("deploy.cli.main", "schema"), 1),
        (("deploy.cli.main", "conformance", NAME), 1),
        (("pytest", "-q", "-p", "no:cacheprovider"), 2),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else None,
)
def test_old_names_are_reported(package, tmp_path, command, code):
    """A package with an old method ends each command with a line that has the file, the line and the new name."""
    old = shutil.copytree(package, tmp_path / "package")
    module = old / f"turnout_{NAME}" / f"{NAME}.py"
    module.write_text(module.read_text().replace("def parse_response", "def read"))
    plugin_install.install(tmp_path / "site", old)
    shutil.copytree(EXAMPLE, old / "conf")
    (old / "conf/integrations/old.yaml").write_text(f"integration: old\nforwarder: {NAME}\nsettings: {{}}\nrules: []\n")
    ran = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=old,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        check=False,
        capture_output=True,
        text=True,
    )
    output = ran.stdout + ran.stderr
    number = module.read_text().partition("def read")[0].count("\n") + 1
    message = f"turnout_{NAME}/{NAME}.py:{number}: BigCorp.read was renamed to parse_response(response, items)"
    assert (ran.returncode, message in output, "Traceback" in output) == (code, True, False), output


def test_nothing_of_the_example_is_left(package):
    """The example's name does not occur in the new package."""
    for pattern in ("*.py", "*.yaml", "*.toml"):
        for path in package.rglob(pattern):
            assert "acme" not in f"{path.relative_to(package)} {path.read_text()}".lower()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["Acme"], 2, "'Acme' is not a valid name: use a-z, 0-9 and _, starting with a letter"),
        (["ga4"], 2, "a forwarder 'ga4' already exists"),
        (["acme", "--folder", "."], 1, "turnout: . already exists"),
    ],
)
def test_refused(tmp_path, monkeypatch, arguments, code, says):
    """An invalid or taken name, and an existing folder, are refused."""
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["new", "forwarder", *arguments])
    assert (result.exit_code, says in result.output) == (code, True)


@pytest.mark.parametrize(
    "file",
    ["turnout_acme/acme.py", "turnout_acme/presets/acme.yaml", "tests/requests/acme/forwarder.yaml", "pyproject.toml"],
)
def test_documentation_shows_the_example(file):
    """The documentation has each file of the example to the letter."""
    assert (TEMPLATE / file).read_text() in (DOCS / "forwarders.md").read_text()


def test_example_is_short():
    """The module of the example is read in one go."""
    assert len((TEMPLATE / "turnout_acme/acme.py").read_text().splitlines()) <= 80
