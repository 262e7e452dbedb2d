import ast
import asyncio
import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from deploy.runtime.supervisor import Supervisor, readable, turnout_command
from deploy.terminal.failures import Failed
from tests.support.shadows import NAMES, write_shadows

READY = 'print("{\\"event\\": \\"ready\\"}", flush=True)'
WORK = f"import time; {READY}; time.sleep(60)"
DEAF = f"import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); {READY}; time.sleep(60)"


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that is only waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class Bench:
    """A supervisor, and its reported warnings."""

    def __init__(self) -> None:
        self.complaints: list[str] = []
        self.supervisor = Supervisor(lambda name, text: self.complaints.append(f"{name}: {text}"))

    async def start(self, name: str, code: str, stop_timeout: float = 2.0):
        return await self.supervisor.start(name, [sys.executable, "-c", code], os.environ, stop_timeout)


def test_stops_the_last_first(tmp_path):
    """Children are stopped one after the other, the last begun first."""
    log = tmp_path / "log"

    async def run() -> None:
        bench = Bench()
        children = []
        for name in ("one", "two"):
            code = f"""
                import signal, sys, time
                def stop(*_):
                    open({str(log)!r}, "a").write("{name} ")
                    sys.exit()
                signal.signal(signal.SIGTERM, stop)
                {READY}
                time.sleep(60)
            """
            children.append(await bench.start(name, textwrap.dedent(code)))
        await bench.supervisor.until_ready(children)
        await bench.supervisor.stop()
        assert [child.process.returncode for child in children] == [0, 0]

    asyncio.run(run())
    assert log.read_text() == "two one "


def test_kills_who_does_not_stop():
    """A child that ignores SIGTERM is killed after its patience, and the others still stop."""

    async def run() -> None:
        bench = Bench()
        children = [await bench.start("good", WORK), await bench.start("deaf", DEAF, stop_timeout=0.2)]
        await bench.supervisor.until_ready(children)
        begun = time.monotonic()
        await bench.supervisor.stop()
        assert time.monotonic() - begun < 30
        assert [child.process.returncode for child in children] == [-15, -9]
        assert bench.complaints == ["deaf: did not stop within 0.2 s; killing it"]

    asyncio.run(run())


def test_says_who_ended_and_why():
    """A child that ends before it is ready is named with its exit code and its last line."""

    async def run() -> None:
        bench = Bench()
        children = [
            await bench.start("good", WORK),
            await bench.start("bad", "import sys; print('first', flush=True); sys.exit('turnout: cannot listen')"),
        ]
        try:
            with pytest.raises(Failed, match=r"^bad ended with exit code 1: turnout: cannot listen$"):
                await bench.supervisor.until_ready(children)
        finally:
            await bench.supervisor.stop()

    asyncio.run(run())


def test_says_who_is_not_ready():
    """A child that is not ready and makes no progress is named."""

    async def run() -> None:
        bench = Bench()
        children = [await bench.start("good", WORK), await bench.start("hung", "import time; time.sleep(600)")]
        try:
            await bench.supervisor.until_ready(children[:1])
            with pytest.raises(Failed, match=r"^not ready, and no progress for 1 s: hung$"):
                await bench.supervisor.until_ready(children, 1)
        finally:
            await bench.supervisor.stop()

    asyncio.run(run())


@pytest.mark.parametrize("work", ["sum(range(100_000))", "print('a line', flush=True); time.sleep(0.05)"])
def test_waits_as_long_as_progress_is_made(work, monkeypatch):
    """A child that works or logs may take many times as long as one that hangs."""
    # The machine that runs the tests may be busy.
    monkeypatch.setattr("deploy.runtime.supervisor.STALL_CPU_SECONDS", 0.02)
    code = f"""
        import time
        began = time.monotonic()
        while time.monotonic() - began < 8:
            {work}
        {READY}
        time.sleep(60)
    """

    async def run() -> None:
        bench = Bench()
        child = await bench.start("slow", textwrap.dedent(code))
        try:
            async with asyncio.timeout(120):
                while not child.cpu_seconds() and not child.lines:
                    await asyncio.sleep(0.01)
            await bench.supervisor.until_ready([child], 4)
        finally:
            await bench.supervisor.stop()

    asyncio.run(run())


def test_some_warnings_are_not_reported():
    """Messages that `up` reports itself are not reported once more for each process."""

    async def run() -> None:
        reported: list[str] = []
        supervisor = Supervisor(lambda _, text: reported.append(text), {"known"})
        lines = [json.dumps({"event": event, "level": "error"}) for event in ("known", "new")]
        await supervisor.start("one", [sys.executable, "-c", f"print({chr(10).join(lines)!r})"], os.environ)
        await supervisor.until_one_ends()
        await supervisor.stop()
        assert reported == ["new"]

    asyncio.run(run())


def test_waits_for_a_version():
    """Children are signalled to reload, and the supervisor waits until they log the new version."""
    code = """
        import json, signal, time
        def say(event, version):
            print(json.dumps({"event": event, "version": version}), flush=True)
        signal.signal(signal.SIGHUP, lambda *_: say("applied the configuration", "2"))
        say("ready", "1")
        while True:
            time.sleep(60)
    """

    async def run() -> None:
        bench = Bench()
        child = await bench.start("one", textwrap.dedent(code))
        await bench.supervisor.until_ready([child])
        assert child.facts["version"] == "1"
        bench.supervisor.reload()
        await bench.supervisor.until_version("2", 120)
        assert child.facts["version"] == "2"
        await bench.supervisor.stop()

    asyncio.run(run())


def test_shows_warnings():
    """Warnings and errors of a child's logs are passed on in words, and nothing else."""

    async def run() -> None:
        bench = Bench()
        lines = ['{"event": "fine", "level": "info"}', '{"event": "no answer", "level": "warning", "port": 1}', "text"]
        child = await bench.start("one", f"print({chr(10).join(lines)!r})")
        await bench.supervisor.until_one_ends()
        await bench.supervisor.stop()
        assert bench.complaints == ["one: no answer (port=1)"]
        assert child.exit_reason() == "one ended with exit code 0: text"

    asyncio.run(run())


@pytest.mark.skipif(sys.platform != "linux", reason="needs the kernel's word on a parent's death")
def test_children_die_with_the_supervisor():
    """After kill -9 of the supervisor no child is left, not even one that ignores signals."""
    code = f"""
        import asyncio, os, sys
        from deploy.runtime.supervisor import Supervisor
        async def run():
            supervisor = Supervisor(print)
            children = [
                await supervisor.start("a", [sys.executable, "-c", {WORK!r}], os.environ),
                await supervisor.start("b", [sys.executable, "-c", {DEAF!r}], os.environ),
            ]
            await supervisor.until_ready(children)
            print(*(child.process.pid for child in children), flush=True)
            await asyncio.sleep(60)
        asyncio.run(run())
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    try:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert all(map(is_alive, pids))
    finally:
        parent.kill()
        parent.communicate()
    deadline = time.monotonic() + 120
    while any(map(is_alive, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"event": "worker ends", "level": "error", "timestamp": "t", "reason": "x"}', "worker ends (reason=x)"),
        ('{"event": "ends"}', "ends"),
        ("Traceback", "Traceback"),
        ("[1]", "[1]"),
    ],
)
def test_readable(line, words):
    """A line of our logs is put in words; any other stays as it is."""
    assert readable(line) == words


def test_packages_in_the_working_directory_do_not_shadow_turnout(tmp_path):
    """A child that is started beside a project's own `streams` and `deploy` runs Turnout's."""
    (tmp_path / "event.json").write_text('{"type": "track", "event": "E", "userId": "u"}')
    example = Path("deploy/example").resolve()
    command = turnout_command("explain", "--config", str(example), "--event", "event.json", "--json")
    done = subprocess.run(command, cwd=write_shadows(tmp_path), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_children_are_started_by_one_function():
    """No other code starts a Python process, so none forgets -P."""
    found = [
        str(path)
        for name in NAMES
        for path in sorted(Path(name).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.executable"
    ]
    assert found == ["deploy/runtime/supervisor.py"]


def test_the_end_of_a_child_that_is_not_essential():
    """Its end is reported with its last line, and the others continue."""

    async def run() -> None:
        bench = Bench()
        command = [sys.executable, "-c", "print('no space left'); raise SystemExit(3)"]
        one = await bench.start("one", WORK)
        await bench.supervisor.start("two", command, os.environ, essential=False)
        ended = asyncio.create_task(bench.supervisor.until_one_ends())
        async with asyncio.timeout(120):
            while not bench.complaints:
                await asyncio.sleep(0.01)
        assert bench.complaints == ["two: two ended with exit code 3: no space left; all others go on"]
        assert not ended.done()
        assert one.process.returncode is None
        await bench.supervisor.stop()
        assert await ended is one

    asyncio.run(run())
