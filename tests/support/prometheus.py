"""Provide Prometheus and promtool from Debian's package, unpacked into a cache."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import requests

from tests.support.npm import CACHE
from tests.support.ports import free_port

FOLDER = CACHE / "prometheus"
REQUIRED = "TURNOUT_TESTS_NEED_PROMETHEUS"


def why_not() -> str | None:
    """Return why Prometheus cannot run here; None if it can."""
    if all(map(shutil.which, ("apt-get", "dpkg"))) or FOLDER.is_dir():
        return None
    return "Prometheus comes as a package of Debian"


def program(name: str) -> Path:
    """Return the path of `prometheus` or `promtool`; downloads them if necessary."""
    if not FOLDER.is_dir():
        work = FOLDER.with_name(f"prometheus.{os.getpid()}")
        work.mkdir(parents=True)
        subprocess.run(["apt-get", "download", "-q", "prometheus"], cwd=work, check=True, capture_output=True)
        (package,) = work.glob("*.deb")
        subprocess.run(["dpkg", "-x", package, "root"], cwd=work, check=True)
        package.unlink()
        # Another process may have been faster.
        with suppress(OSError):
            work.rename(FOLDER)
    return FOLDER / "root" / "usr" / "bin" / name


class Prometheus:
    """A running Prometheus."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def get(self, path: str, **parameters: str) -> Any:
        """Return the data of its API; fails if an expression is invalid."""
        answer = requests.get(f"{self._url}/api/v1/{path}", params=parameters, timeout=60)
        data = answer.json()
        assert data["status"] == "success", data
        return data["data"]

    def query(self, expression: str) -> list[Any]:
        """Return the series of an expression now."""
        found: list[Any] = self.get("query", query=expression)["result"]
        return found

    def is_ready(self) -> bool:
        """Return whether it responds."""
        with suppress(requests.ConnectionError):
            return requests.get(f"{self._url}/-/ready", timeout=60).status_code == 200
        return False


@contextmanager
def running(folder: Path, configuration: str) -> Iterator[Prometheus]:
    """Run Prometheus with a configuration inside a `with` block."""
    port = free_port()
    (folder / "prometheus.yml").write_text(configuration)
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                program("prometheus"),
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        prometheus = Prometheus(port)
        deadline = time.monotonic() + 120
        while not prometheus.is_ready():
            assert process.poll() is None, (folder / "prometheus.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield prometheus
    finally:
        process.kill()
        process.wait()
