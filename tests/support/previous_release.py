"""Check out the previous release's code from the repository's history."""

import os
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMIT = ROOT / "deploy" / "previous-release"
"""The commit of the release that upgrades are tested from; each release changes it."""

PACKAGES = ("streams", "transforms", "forwarders", "deploy")


def check_out(folder: Path) -> Path:
    """Write the packages of the previous release into a folder.

    Skips if the history is missing (a shallow clone, an archive); in CI this is an error except for a shallow clone.
    """
    commit = COMMIT.read_text().strip()
    found = subprocess.run(
        ["git", "cat-file", "-e", f"{commit}^{{commit}}"], cwd=ROOT, check=False, capture_output=True
    )
    if found.returncode:
        reason = f"the repository's history has no commit {commit} of {COMMIT.relative_to(ROOT)}: git fetch --unshallow"
        asked = ["git", "rev-parse", "--is-shallow-repository"]
        shallow = subprocess.run(asked, cwd=ROOT, check=False, capture_output=True, text=True).stdout.strip() == "true"
        (pytest.fail if os.environ.get("CI") and not shallow else pytest.skip)(reason)
    command = ["git", "archive", commit, *PACKAGES]
    archive = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
    # A distribution of its own, which would otherwise be that of this version.
    (folder / "turnout_tracking").symlink_to(folder / "streams" / "tracking" / "turnout_tracking")
    return folder
