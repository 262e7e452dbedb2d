"""Build and run the container image with Buildah and Podman, without a registry, on a base from Debian's archive."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.npm import CACHE

ROOT = Path(__file__).parents[2]
BASE = "docker.io/library/debian:trixie-slim"
"""The base that the Dockerfile names; here it is made by mmdebstrap, because no registry is needed for that."""

TOOLS = ("buildah", "podman", "runc", "mmdebstrap")
REQUIRED = "TURNOUT_TESTS_NEED_IMAGE"

# Without these, runc fails in containers that must not raise their limits.
CONTAINERS_CONF = """[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
runtime = "runc"
"""

MOUNTS = ("/etc/ssl/certs", "/etc/pip.conf")
"""The machine's certificates and settings of pip, for the build only."""


def why_not() -> str | None:
    """Return why the image cannot be built here; None if it can."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    return f"the image needs {', '.join(missing)}" if missing else None


class ImageTools:
    """Buildah and Podman with settings in a separate folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "containers.conf").write_text(CONTAINERS_CONF)

    def run(self, *command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a tool; its output is text."""
        environment = os.environ | {"CONTAINERS_CONF": str(self._folder / "containers.conf")}
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=self._folder)
        assert ran.returncode == 0 or not check, f"{command}\n{ran.stdout[-3000:]}{ran.stderr[-3000:]}"
        return ran

    def build(self, tag: str) -> None:
        """Build the wheels, then the image, like `make image`."""
        self._import_base()
        context = self._folder / "context"
        for project in (ROOT / "streams" / "tracking", ROOT):
            wheel = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", context / "dist", project]
            subprocess.run(wheel, check=True, capture_output=True)
        shutil.copy(ROOT / "constraints.txt", context)
        (context / "deploy" / "image").mkdir(parents=True)
        for name in ("Dockerfile", "sbom.py"):
            shutil.copy(ROOT / "deploy" / "image" / name, context / "deploy" / "image")
        mounts = [option for path in MOUNTS if Path(path).exists() for option in ("-v", f"{path}:{path}:ro")]
        options = ("--isolation", "chroot", "--pull-never", "--format", "docker")
        self.run(
            "buildah", "build", *options, *mounts, "-t", tag, "-f", context / "deploy/image/Dockerfile", context
        )  # fmt: skip

    def inspect(self, tag: str) -> dict[str, Any]:
        """Return the image's configuration."""
        data: dict[str, Any] = json.loads(self.run("podman", "inspect", "--type", "image", tag).stdout)[0]
        return data

    def start(self, name: str, tag: str, options: Sequence[str], command: Sequence[str]) -> None:
        """Start a container."""
        self.run("podman", "run", "--detach", "--name", name, "--network", "host", *options, tag, *command)

    def remove(self, names: Sequence[str]) -> None:
        """Remove containers, running or not."""
        self.run("podman", "rm", "--force", "--time", "0", *names, check=False)

    def logs(self, name: str) -> str:
        """Return a container's output."""
        ran = self.run("podman", "logs", name, check=False)
        return ran.stdout + ran.stderr

    def _import_base(self) -> None:
        if self.run("podman", "image", "exists", BASE, check=False).returncode:
            tar = CACHE / "image" / "trixie.tar"
            if not tar.exists():
                tar.parent.mkdir(parents=True, exist_ok=True)
                unfinished = tar.with_name(f"{os.getpid()}.tar")
                include = "--include=ca-certificates,python3"
                docs = "--dpkgopt=path-exclude=/usr/share/doc/*"
                self.run("mmdebstrap", "--variant=minbase", include, docs, "trixie", unfinished)
                unfinished.rename(tar)
            self.run("podman", "import", tar, BASE)


def as_options(environment: Mapping[str, str]) -> list[str]:
    """Return environment variables as Podman's options."""
    return [option for name, value in environment.items() for option in ("--env", f"{name}={value}")]
