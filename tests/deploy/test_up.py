"""`turnout up`, whole: the example's processes over the embedded broker."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from tests.real_kafka import free_port

READY_WITHIN = 60.0
"""Seconds; on an idle machine 10, but tests share theirs."""


class Up:
    """A running `turnout up` of a copy of the example, on ports of its own."""

    def __init__(self, folder: Path) -> None:
        shutil.copytree("deploy/example", folder)
        self.folder = folder
        self.ports = {port: str(free_port()) for port in ("8080", "8099", "9092")}
        for file in (folder / "turnout.yaml", *folder.glob("integrations/*.yaml")):
            text = re.sub("8080|8099|9092", lambda found: self.ports[found[0]], file.read_text())
            file.write_text(text.replace("/tmp/turnout-example", str(folder / "out")))  # noqa: S108
        self._log = (folder / "log").open("w+")
        self.process = subprocess.Popen(
            [Path(sys.executable).parent / "turnout", "up", folder],
            env={"PATH": os.environ["PATH"], "HOME": str(Path.home()), "COLUMNS": "200"},
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    @property
    def output(self) -> str:
        """All that it has printed."""
        return (self.folder / "log").read_text()

    def until(self, condition: Callable[[], object], seconds: float = 20.0) -> None:
        """Wait for a condition."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.05)

    def children(self) -> dict[int, str]:
        """Processes that it started, by their command lines, which all name one of its ports or its folder."""
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
        self.process.kill()
        self.process.wait()
        for pid in self.children():
            os.kill(pid, signal.SIGKILL)
        self._log.close()


@pytest.fixture
def up(tmp_path) -> Iterator[Up]:
    if sys.platform != "linux":
        pytest.skip("looks for processes in /proc")
    running = Up(tmp_path / "example")
    try:
        running.until(lambda: "Ctrl-C stops all" in running.output, READY_WITHIN)
        yield running
    finally:
        running.close()


def test_the_way_of_an_event(up):
    """The line to copy works, the terminal shows what each integration got or why not, and Ctrl-C leaves nothing."""
    (curl,) = re.findall("^curl .*$", up.output, re.MULTILINE)
    sent = subprocess.run(f"{curl} -s", shell=True, capture_output=True, text=True, check=True)  # noqa: S602
    assert sent.stdout == '{"success":true}'
    up.until(lambda: "track Order Completed  user u-1  from web" in up.output)
    shown = up.output.partition("track Order Completed  user u-1")[2]
    assert re.search(r"^  file +delivered +everything +\{.*\"Order Completed\"", shown, re.MULTILINE)
    assert re.search(r"^  ga4 +delivered +\S.* \{\"client_id\"", shown, re.MULTILINE)
    assert re.search(r"^  webhook +delivered +purchase +\{\"kind\":\"purchase\"", shown, re.MULTILINE)
    got = requests.get(f"http://127.0.0.1:{up.ports['8099']}/_requests", timeout=5).json()
    assert {it["path"] for it in got} == {"/mp/collect", "/hooks/sales"}

    batch = [{"type": "page", "name": "Home", "userId": "u-2"}, {"type": "track", "userId": "u-2"}]
    url = f"http://127.0.0.1:{up.ports['8080']}/v1/batch"
    answer = requests.post(url, json={"batch": batch}, auth=("demo-server", ""), timeout=20)
    assert [it["index"] for it in answer.json()["rejected"]] == [1]
    up.until(lambda: "page Home  user u-2  from server" in up.output and "rejected  " in up.output)
    shown = up.output.partition("page Home  user u-2")[2]
    assert re.search(r"^  ga4 +filtered +not from a source of its own", shown, re.MULTILINE)
    assert re.search(r"^  webhook +filtered +no rule takes it", shown, re.MULTILINE)

    assert len(up.children()) == 5
    begun = time.monotonic()
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(20) == 0
    assert time.monotonic() - begun < 10
    assert not up.children()
    lines = [line for file in (up.folder / "out").iterdir() for line in file.read_text().splitlines()]
    assert len(lines) == 2


def test_a_process_that_dies(up):
    """When a child dies all others are stopped, even one that hangs, and the exit code is 1."""
    os.kill(up.pid_of("forwarder"), signal.SIGSTOP)
    os.kill(up.pid_of("router"), signal.SIGKILL)
    begun = time.monotonic()
    assert up.process.wait(20) == 1
    assert time.monotonic() - begun < 10
    assert not up.children()
    assert "turnout: router was killed by SIGKILL" in up.output
    assert "forwarder: did not stop" in up.output


def test_kill_9(up):
    """A kill -9 of `up` itself leaves no process behind."""
    assert len(up.children()) == 5
    up.process.kill()
    up.process.wait()
    deadline = time.monotonic() + 5
    while up.children():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_busy_port():
    """A busy port is one line, at once, and exit code 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [Path(sys.executable).parent / "turnout", "up", "deploy/example"],
            env={"PATH": os.environ["PATH"], "HOME": str(Path.home()), "TURNOUT_COLLECTOR__PORT": str(port)},
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
    assert (done.returncode, done.stderr) == (
        1,
        f"turnout: cannot listen on 127.0.0.1:{port}: Address already in use\n",
    )
