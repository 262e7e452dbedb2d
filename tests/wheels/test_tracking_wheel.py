"""turnout-tracking's wheel, installed into apps' environments on each Python version that it supports."""

import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.streams.tracking import examples
from tests.streams.tracking.helpers import FakeCollector, collecting
from tests.support.shadows import NAMES, write_shadows
from tests.wheels.environments import VERSIONS, Environment, find_python, wheel

pytestmark = pytest.mark.wheels

FRAMEWORKS = ("fastapi", "flask", "django", "uvicorn", "gunicorn")
APPS = ("fastapi_app.py", "flask_app.py", "asgi.py", "wsgi.py")

Make = Callable[[str], Environment]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Return a function that makes the environment of a Python version, once."""

    @cache
    def make(version: str) -> Environment:
        python = find_python(version)
        if python is None:
            pytest.skip(f"Python {version} is not installed")
        made = Environment(tmp_path_factory.mktemp(f"python{version}") / "venv", python)
        made.install(wheel("turnout_tracking"))
        listed = made.run("python", "-m", "pip", "list", "--format", "freeze", cwd=made.folder)
        installed = {line.partition("==")[0].lower().replace("_", "-") for line in listed.splitlines()}
        assert installed - {"pip", "setuptools"} == {"orjson", "turnout-tracking"}
        made.install(*FRAMEWORKS)
        return made

    return make


@pytest.mark.parametrize("app", APPS)
@pytest.mark.parametrize("version", VERSIONS)
def test_an_app_with_packages_named_like_turnouts(version: str, app: str, environment: Make, tmp_path: Path):
    """An app that has its own `streams` and `deploy` sends its events, and imports its own packages."""
    python = environment(version).python
    collector: FakeCollector
    with collecting() as collector:
        examples.write(write_shadows(tmp_path), collector.url)
        own = "".join(f"import {name}\nassert {name}.OWNER == 'the project'\n" for name in NAMES)
        (tmp_path / app).write_text((tmp_path / app).read_text() + own)
        examples.check(app, tmp_path, collector, python)


@pytest.mark.parametrize("version", VERSIONS)
def test_events_go_to_kafka_only_with_the_extra(version: str, environment: Make, tmp_path: Path):
    """Without kafka-python the error names the extra, and with it the destination is accepted."""
    made = environment(version)
    kafka = "from turnout_tracking import Kafka, Tracker; Tracker(Kafka('127.0.0.1:9', source='web'))"
    code = f"try:\n    {kafka}\nexcept ImportError as error:\n    print(error)"
    assert "pip install 'turnout-tracking[kafka]'" in made.run("python", "-c", code, cwd=tmp_path)
    made.install(f"{wheel('turnout_tracking')}[kafka]")
    assert made.run("python", "-c", kafka, cwd=tmp_path) == ""


def test_type_checkers_read_it(environment: Make, tmp_path: Path):
    """A type checker reads the types of the installed package, and refuses a name that it does not have."""
    made = environment(VERSIONS[0])
    (tmp_path / "right.py").write_text(
        "from turnout_tracking import PageRequest, Tracker\n\n\n"
        "def user(request: PageRequest) -> str | None:\n    return request.cookie('user')\n\n\n"
        "reveal_type(Tracker('https://events.example.com', 'key', user=user).counts)\n"
    )
    (tmp_path / "wrong.py").write_text("from turnout_tracking import Trackr\n")

    def check(file: str) -> str:
        mypy = [sys.executable, "-m", "mypy", "--strict", "--python-executable", made.python, file]
        return subprocess.run(mypy, cwd=tmp_path, capture_output=True, text=True, check=False).stdout

    right, wrong = check("right.py"), check("wrong.py")
    assert "Mapping[" in right
    assert "Success" in right
    assert 'has no attribute "Trackr"' in wrong
