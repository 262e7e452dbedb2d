"""Install npm packages for tests once into a cache, exactly as in a package-lock.json."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from tests.support.locks import locked

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "turnout"


def command(script: Path, folder: Path) -> tuple[list[str], dict[str, str]] | None:
    """Return command and environment to run a script with the packages of a folder's package.json; None without npm."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if not npm or not node:
        return None
    return [node, str(script)], os.environ | {"NODE_PATH": str(_install(npm, folder))}


def installed(folder: Path) -> Path | None:
    """Install the packages of a folder's package.json, and return their folder; None without npm."""
    npm = shutil.which("npm")
    return _install(npm, folder) if npm else None


def modules(folder: Path) -> Path:
    """Return the folder of the packages of a folder's package-lock.json, once installed."""
    files = [folder / "package.json", folder / "package-lock.json"]
    version = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
    return CACHE / f"{folder.name}-{version}" / "node_modules"


def _install(npm: str, folder: Path) -> Path:
    cache = modules(folder).parent
    with locked(cache.with_name(f"{cache.name}.lock")):
        if cache.is_dir():
            return modules(folder)
        work = cache.with_name(f"{cache.name}.{os.getpid()}")
        work.mkdir(parents=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(folder / name, work)
        install = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(install, cwd=work, check=True, capture_output=True, stdin=subprocess.DEVNULL)
        work.rename(cache)
    return modules(folder)
