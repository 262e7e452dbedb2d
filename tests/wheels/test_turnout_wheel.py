"""Turnout's wheel, installed with turnout-tracking's into a fresh environment."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.ports import free_port, free_row
from tests.support.shadows import write_shadows
from tests.wheels.environments import ROOT, Environment, wheel

pytestmark = pytest.mark.wheels


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with both wheels and pytest."""
    made = Environment(tmp_path_factory.mktemp("turnout") / "venv")
    constraints = ROOT / "constraints.txt"
    made.install("--constraint", constraints, f"{wheel('turnout')}[conformance]", wheel("turnout_tracking"))
    return made


def test_requirements_are_met(environment: Environment, tmp_path: Path):
    """Everything that the installed distributions require is installed."""
    assert "No broken requirements" in environment.run("python", "-m", "pip", "check", cwd=tmp_path)


def test_the_command_line(environment: Environment, tmp_path: Path):
    """`turnout` runs in a project that has its own `streams` and `deploy`."""
    assert "explain" in environment.run("turnout", "--help", cwd=write_shadows(tmp_path))


def test_a_new_project_is_valid(environment: Environment, tmp_path: Path):
    """`turnout check` accepts a folder with a source and a scaffolded integration, and finds a mistake in it."""
    (tmp_path / "turnout.yaml").write_text("{}\n")
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources" / "web.yaml").write_text("source: web\nwrite_keys: ['${WEB_WRITE_KEY}']\n")
    environment.run("turnout", "new", "integration", "analytics", "--forwarder", "ga4", cwd=tmp_path)
    environment.run("turnout", "check", cwd=tmp_path)
    (tmp_path / "sources" / "web.yaml").write_text("source: web\nwrite_key: x\n")
    environment.run("turnout", "check", cwd=tmp_path, code=2)


def test_a_new_forwarder_passes_under_pytest(environment: Environment, tmp_path: Path):
    """A scaffolded forwarder is installed and checked in its own project, as the documentation says."""
    environment.run("turnout", "new", "forwarder", "big_corp", cwd=tmp_path)
    package = tmp_path / "turnout-big-corp"
    environment.install("--no-deps", "--editable", package)
    assert "0 failed" in environment.run("turnout", "conformance", "big_corp", cwd=package)
    assert " passed" in environment.run("pytest", "-q", cwd=package)


def test_pytest_in_a_project_with_its_own_deploy(environment: Environment, tmp_path: Path):
    """Turnout in the environment does not disturb the tests of a project with a `deploy` package."""
    write_shadows(tmp_path)
    (tmp_path / "test_own.py").write_text("import deploy\n\n\ndef test_own():\n    assert deploy.OWNER\n")
    assert "1 passed" in environment.run("python", "-m", "pytest", "-q", cwd=tmp_path)


def test_the_middleware(environment: Environment, tmp_path: Path):
    """The middleware is importable, and the old name's error says the new one."""
    environment.run("python", "-c", "from turnout_tracking import AsgiTracking, Tracker; Tracker(None)", cwd=tmp_path)
    code = "try:\n    import streams.tracking\nexcept ImportError as error:\n    print(error)"
    assert "pip install turnout-tracking" in environment.run("python", "-c", code, cwd=tmp_path)


def test_an_event_is_explained(environment: Environment, tmp_path: Path):
    """The example that is part of the wheel compiles, and routes an event."""
    (tmp_path / "event.json").write_text('{"type": "track", "event": "Order Completed", "userId": "u-1"}')
    where = "import deploy, pathlib; print(pathlib.Path(deploy.__file__).parent / 'example')"
    example = environment.run("python", "-c", where, cwd=tmp_path).strip()
    explained = environment.run(
        "turnout", "explain", "--config", example, "--event", "event.json", "--json", cwd=tmp_path
    )
    assert json.loads(explained)


def test_from_an_empty_environment_to_a_delivered_event(environment: Environment, tmp_path: Path):
    """As the README says: install, `init`, `check`, `up`; the printed curl line is delivered to the endpoint."""
    environment.install(f"{wheel('turnout')}[local]", wheel("turnout_tracking"))
    environment.run("turnout", "init", "x", cwd=tmp_path)
    assert "no errors" in environment.run("turnout", "check", "x", cwd=tmp_path)
    assert "2 passed, 0 failed" in environment.run("turnout", "test", "--config", "x", cwd=tmp_path)
    environment.run("turnout", "monitoring", "monitoring", cwd=tmp_path)
    assert {path.name for path in (tmp_path / "monitoring" / "dashboards").iterdir()} == {
        "overview.json",
        "delivery.json",
    }
    ports = {f"TURNOUT_{name}": str(free_port()) for name in ("COLLECTOR__PORT", "LEDGER__PORT", "SIMULATOR_PORT")}
    ports |= {"TURNOUT_BROKER__BOOTSTRAP": f"127.0.0.1:{free_port()}", "TURNOUT_METRICS_PORT": str(free_row(8))}
    log = tmp_path / "log"
    with log.open("wb") as output:
        up = subprocess.Popen(
            [environment.folder / "bin" / "turnout", "up", "x"],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "HOME": str(Path.home()), "COLUMNS": "200", **ports},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        (curl,) = wait_for(log, up, "^curl .*$")
        subprocess.run(f"{curl} -sf", shell=True, check=True, capture_output=True)  # noqa: S602
        wait_for(log, up, r"^  orders +delivered +order +\{\"order\":\"A-1001\",\"user\":\"u-1\"")
    finally:
        up.send_signal(signal.SIGINT)
        assert up.wait(120) == 0


def wait_for(log: Path, process: subprocess.Popen[bytes], pattern: str) -> list[str]:
    """Wait until the log of a running process has a line with the pattern."""
    deadline = time.monotonic() + 300
    while not (found := re.findall(pattern, log.read_text(), re.MULTILINE)):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    return found
