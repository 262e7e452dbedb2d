"""Run `turnout up` for tests."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import requests

from tests.support.ports import free_port, free_row
from tests.support.shadows import write_shadows

READY_WITHIN = 300.0
"""Seconds; on an idle machine 10, but tests share theirs."""


class Up:
    """A running `turnout up` of a copy of the example, with more files and variables, on its own ports.

    Its working directory has packages with the names of Turnout's own, as a user's project may.
    """

    def __init__(
        self, folder: Path, files: Mapping[str, str] | None = None, variables: Mapping[str, str] | None = None
    ) -> None:
        shutil.copytree("deploy/example", folder)
        for name, text in (files or {}).items():
            (folder / name).write_text(text)
        self.folder = folder
        self.ports = {port: str(free_port()) for port in ("8080", "8099", "9092")}
        for file in (folder / "turnout.yaml", *folder.glob("integrations/*.yaml")):
            text = re.sub("8080|8099|9092", lambda found: self.ports[found[0]], file.read_text())
            file.write_text(text.replace("/tmp/turnout-example", str(folder / "out")))  # noqa: S108
        self.metrics_port = free_row(4)
        self.ledger_port, self.console_port = str(free_port()), str(free_port())
        self._variables = variables or {}
        self._log = (folder / "log").open("w+")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process of `turnout up`."""
        assert self._process, "it is not started"
        return self._process

    def start(self) -> None:
        """Start it."""
        self._process = subprocess.Popen(
            [Path(sys.executable).parent / "turnout", "up", self.folder],
            cwd=write_shadows(self.folder.parent / f"{self.folder.name}-project"),
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(Path.home()),
                "COLUMNS": "200",
                "TURNOUT_METRICS_PORT": str(self.metrics_port),
                "TURNOUT_LEDGER__PORT": self.ledger_port,
                "TURNOUT_CONSOLE__PORT": self.console_port,
                **self._variables,
            },
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def begun(self) -> "Up":
        """Start it, and wait until it accepts events."""
        self.start()
        self.until(lambda: "Press Ctrl-C to stop" in self.output, READY_WITHIN)
        return self

    def at_vendors(self) -> list[dict[str, Any]]:
        """Return the requests that the simulator received."""
        return requests.get(f"http://127.0.0.1:{self.ports['8099']}/_requests", timeout=60).json()

    def metrics(self, process: int) -> str:
        """Return the metrics of the collector (0), router (1), forwarder (2) or ledger (3)."""
        return requests.get(f"http://127.0.0.1:{self.metrics_port + process}/metrics", timeout=60).text

    def counts(self) -> list[dict[str, Any]]:
        """Return the ledger's counts by outcome; empty until it responds."""
        try:
            answer = requests.get(f"http://127.0.0.1:{self.ledger_port}/counts?by=outcome", timeout=60)
        except requests.ConnectionError:
            return []
        rows: list[dict[str, Any]] = answer.json()["rows"]
        return rows

    @property
    def console_link(self) -> str:
        """Return the printed link to the console."""
        found = re.search(r"^console: (http\S+)", self.output, re.MULTILINE)
        assert found, self.output
        return found[1]

    @property
    def output(self) -> str:
        """Return its output so far."""
        return (self.folder / "log").read_text()

    def until(self, condition: Callable[[], object], seconds: float = 120.0) -> None:
        """Wait for a condition."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.05)

    def children(self) -> dict[int, str]:
        """Return its child processes, found by command lines with one of its ports or its folder."""
        ours = (str(self.folder), *self.ports.values())
        found = {}
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if any(mark in line for mark in ours) and int(path.parent.name) != self.process.pid:
                found[int(path.parent.name)] = line
        return found

    def pid_of(self, name: str) -> int:
        return next(pid for pid, line in self.children().items() if name in line)

    def close(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
        for pid in self.children():
            os.kill(pid, signal.SIGKILL)
        self._log.close()
