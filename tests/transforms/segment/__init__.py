"""Segment's own engine, to compare with: installed once by npm into a cache."""

import os
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "turnout" / "segment"


def command(script: Path) -> tuple[list[str], dict[str, str]] | None:
    """The command and environment that run a script beside Segment's engine; None without node and npm."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if not npm or not node:
        return None
    manifest = (HERE / "package.json").read_text()
    installed = CACHE / "package.json"
    if not (CACHE / "node_modules").is_dir() or installed.read_text() != manifest:
        CACHE.mkdir(parents=True, exist_ok=True)
        installed.write_text(manifest)
        install = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(install, cwd=CACHE, check=True, capture_output=True)
    return [node, str(script)], os.environ | {"NODE_PATH": str(CACHE / "node_modules")}
