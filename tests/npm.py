"""Packages from npm for tests: installed once, as a package.json pins them, into a cache."""

import os
import shutil
import subprocess
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "turnout"


def command(script: Path, folder: Path) -> tuple[list[str], dict[str, str]] | None:
    """The command and environment that run a script with the packages of a folder's package.json; None without npm."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if not npm or not node:
        return None
    return [node, str(script)], os.environ | {"NODE_PATH": str(_installed(npm, folder) / "node_modules")}


def _installed(npm: str, folder: Path) -> Path:
    manifest = (folder / "package.json").read_text()
    cache = CACHE / folder.name
    installed = cache / "package.json"
    if not (cache / "node_modules").is_dir() or installed.read_text() != manifest:
        cache.mkdir(parents=True, exist_ok=True)
        installed.write_text(manifest)
        install = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(install, cwd=cache, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    return cache
