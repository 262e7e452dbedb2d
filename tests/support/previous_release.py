"""The code of the previous release, from the repository's history."""

import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMIT = ROOT / "deploy" / "previous-release"
"""The commit of the release that upgrades are tested from; each release changes it."""

PACKAGES = ("streams", "transforms", "forwarders", "deploy")


def why_not() -> str | None:
    """Why its code cannot be had here, None when it can."""
    found = subprocess.run(
        ["git", "cat-file", "-e", f"{_commit()}^{{commit}}"], cwd=ROOT, check=False, capture_output=True
    )
    return None if found.returncode == 0 else f"the repository's history has no commit {_commit()}"


def check_out(folder: Path) -> Path:
    """Write the packages of the previous release into a folder."""
    command = ["git", "archive", _commit(), *PACKAGES]
    archive = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
    # A distribution of its own, which would otherwise be that of this version.
    (folder / "turnout_tracking").symlink_to(folder / "streams" / "tracking" / "turnout_tracking")
    return folder


def _commit() -> str:
    return COMMIT.read_text().strip()
