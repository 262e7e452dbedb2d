"""Install the example of a forwarder's package, `plugin/`, without network access."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

PLUGIN = Path(__file__).parent / "plugin"


def build_wheel(folder: Path, package: Path = PLUGIN) -> Path:
    """Build the plug-in's wheel without its build backend, which would have to be downloaded."""
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    distribution = project["name"].replace("-", "_")
    info = f"{distribution}-{project['version']}.dist-info"
    entry_points = "".join(
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
        for group, points in project["entry-points"].items()
    )
    files = {
        path.relative_to(package).as_posix(): path.read_text()
        for path in sorted((package / distribution).rglob("*"))
        if path.suffix in (".py", ".yaml")
    } | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": entry_points,
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    wheel = folder / f"{distribution}-{project['version']}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return wheel


def install(target: Path, package: Path = PLUGIN) -> None:
    """Install the plug-in, or another package, with pip into a folder that a process then has on its PYTHONPATH."""
    wheel = build_wheel(target.parent, package)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", str(target), str(wheel)], check=True)
