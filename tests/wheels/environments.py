"""Create virtual environments of several Python versions."""

import os
import subprocess
import sys
import venv
from functools import cache
from pathlib import Path

VERSIONS = ("3.9", "3.10", "3.11", "3.12", "3.13")
"""The Python versions that turnout-tracking supports."""

ROOT = Path(__file__).parents[2]
DIST = ROOT / "dist"


def wheel(distribution: str, folder: Path = DIST) -> Path:
    """Return the only wheel of a distribution in a folder; by default the one that `make dist` built."""
    (found,) = folder.glob(f"{distribution}-[0-9]*.whl")
    return found


@cache
def find_python(version: str) -> Path | None:
    """Return a Python of this version: this one, one on the PATH, or one of pyenv; None if not installed."""
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return Path(sys.executable)
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for python in (Path(f"python{version}"), *sorted(pyenv.glob(f"{version}.*/bin/python"), reverse=True)):
        # pyenv's shims are on the PATH for versions that are not active, and then fail.
        code = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
        try:
            ran = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
        except OSError:
            continue
        if ran.stdout.strip() == version:
            return python
    return None


class Environment:
    """A virtual environment, and a folder to work in that is outside Turnout's checkout."""

    def __init__(self, folder: Path, python: Path = Path(sys.executable)) -> None:
        self.folder = folder
        if python == Path(sys.executable):
            venv.create(folder, with_pip=True, symlinks=True)
        else:
            subprocess.run([python, "-m", "venv", folder], check=True)
        self.python = folder / "bin" / "python"

    def install(self, *requirements: str | Path) -> None:
        """Install with pip."""
        pip = [self.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *requirements], check=True, cwd=self.folder)

    def run(self, *command: str | Path, cwd: Path, code: int = 0) -> str:
        """Run a program of the environment, and return its output; fails the test unless it exits with `code`."""
        program = self.folder / "bin" / command[0]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        ran = subprocess.run(
            [program, *command[1:]], cwd=cwd, env=environment, capture_output=True, text=True, check=False
        )
        assert ran.returncode == code, ran.stdout + ran.stderr
        return ran.stdout
