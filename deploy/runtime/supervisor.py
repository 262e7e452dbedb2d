"""Start child processes together, and stop all of them when one ends."""

import asyncio
import ctypes
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from deploy.runtime.logs import READY
from deploy.runtime.reload import APPLIED
from deploy.terminal.failures import Failed
from streams.parsing.lenient_json import read_object

MAX_LINES = 20

STALL_SECONDS = 60.0
STALL_CPU_SECONDS = 1.0
"""A process that uses less processor time than this in STALL_SECONDS, and logs nothing, makes no progress."""

LOOK_SECONDS = 0.1
_PR_SET_PDEATHSIG = 1


@dataclass
class Child:
    """A running process.

    `lines` are the last lines of its output and `line_count` is the number of all of them. `facts` are the fields that
    it logged when it was ready, with the version of the configuration that it has applied since. `stop_timeout` are the
    seconds that it may take to stop. If a process that is not `essential` ends, that is reported, and the others go on.
    """

    name: str
    process: asyncio.subprocess.Process
    stop_timeout: float
    essential: bool = True
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=MAX_LINES))
    line_count: int = 0
    facts: dict[str, Any] = field(default_factory=dict)
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    def exit_reason(self) -> str:
        """Describe in one line why the process ended."""
        code = self.process.returncode
        how = f"was killed by {signal.Signals(-code).name}" if code and code < 0 else f"ended with exit code {code}"
        last = readable(self.lines[-1]) if self.lines else "no output"
        return f"{self.name} {how}: {last}"

    def cpu_seconds(self) -> float:
        """Return the processor time that it has used; the time of day on systems that do not report it."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return monotonic()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def turnout_command(*arguments: str) -> list[str]:
    """Return the command line of a child process that runs `turnout`.

    With -P, packages named `streams` or `deploy` in the working directory do not shadow Turnout's own.
    """
    return [sys.executable, "-P", "-m", "deploy.cli.main", *arguments]


class Supervisor:
    """Starts children, each in its own process group, and stops them in reverse order.

    With groups of their own, a terminal's Ctrl-C does not stop all of them at once. On Linux they are killed if this
    process ends in any way. `report` is called with a child's name and each warning in its logs, unless the warning's
    message is in `unreported`.
    """

    def __init__(self, report: Callable[[str, str], None], unreported: Collection[str] = ()) -> None:
        self._unreported = unreported
        self._children: list[Child] = []
        self._readers: list[asyncio.Task[None]] = []
        self._report = report
        self._stopping = False

    async def start(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        stop_timeout: float = 2.0,
        *,
        essential: bool = True,
    ) -> Child:
        """Start a process."""
        process = await asyncio.create_subprocess_exec(
            *command,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            process_group=0,
            preexec_fn=_die_with_parent(),
            limit=1024 * 1024,
        )
        child = Child(name, process, stop_timeout, essential)
        self._children.append(child)
        self._readers.append(asyncio.create_task(self._read(child)))
        return child

    async def until_ready(self, children: Sequence[Child], stall_seconds: float = STALL_SECONDS) -> None:
        """Wait until these children are ready, as long as an unready one makes progress.

        Raises Failed if any child ends, or if no progress is made for `stall_seconds`.
        """
        ended = asyncio.create_task(self.until_one_ends())
        progress = _Progress()
        try:
            while waiting := [child for child in children if not child.ready.is_set()]:
                await asyncio.wait([ended], timeout=LOOK_SECONDS)
                if ended.done():
                    raise Failed(ended.result().exit_reason())
                if progress.stalled(waiting) > stall_seconds:
                    names = ", ".join(child.name for child in waiting)
                    raise Failed(f"not ready, and no progress for {stall_seconds:.0f} s: {names}")
        finally:
            ended.cancel()

    async def until_ready_or_ended(self, child: Child, timeout: float) -> None:
        """Wait until a child that is not essential is ready or has ended, or for `timeout` seconds."""
        tasks = [asyncio.create_task(child.ready.wait()), asyncio.create_task(child.process.wait())]
        await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()

    async def until_version(self, version: str, timeout: float) -> None:
        """Wait until every child that reports a version has applied this one; for at most `timeout` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while any(child.facts.get("version", version) != version for child in self._children):
                    await asyncio.sleep(LOOK_SECONDS)

    def reload(self) -> None:
        """Have the children that are ready and have a configuration read it again."""
        for child in self._children:
            if "version" in child.facts:
                _signal(child, signal.SIGHUP)

    async def until_one_ends(self) -> Child:
        """Wait until an essential child has ended and its output is read."""
        waits = {asyncio.create_task(child.process.wait()): child for child in self._children if child.essential}
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        child = next(waits[wait] for wait in done)
        await asyncio.wait([self._readers[self._children.index(child)]], timeout=1)
        return child

    async def stop(self) -> None:
        """Stop all children, the last one first; those that do not stop in time are killed."""
        self._stopping = True
        for child in reversed(self._children):
            _signal(child, signal.SIGTERM)
            try:
                await asyncio.wait_for(child.process.wait(), child.stop_timeout)
            except TimeoutError:
                self._report(child.name, f"did not stop within {child.stop_timeout:g} s; killing it")
                self.kill(child)
                await child.process.wait()
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)

    def kill(self, *children: Child) -> None:
        """Kill these children, or all."""
        for child in children or self._children:
            _signal(child, signal.SIGKILL)

    async def _read(self, child: Child) -> None:
        await self._read_lines(child)
        if not child.essential and not self._stopping:
            await child.process.wait()
            self._report(child.name, f"{child.exit_reason()}; all others go on")

    async def _read_lines(self, child: Child) -> None:
        assert child.process.stdout
        while True:
            try:
                line = await child.process.stdout.readline()
            except ValueError:
                continue
            if not line:
                return
            data = read_object(line)
            child.line_count += 1
            if data is not None and data.get("event") == READY:
                child.facts = data
                child.ready.set()
                continue
            if data is not None and data.get("event") == APPLIED:
                child.facts["version"] = data.get("version")
            child.lines.append(line.decode(errors="replace").rstrip())
            if data is not None and self._is_reported(data):
                self._report(child.name, readable(child.lines[-1]))

    def _is_reported(self, data: Mapping[str, Any]) -> bool:
        is_warning = data.get("level") in ("warning", "error", "critical")
        return is_warning and data.get("event") not in self._unreported


class _Progress:
    """Notices when children make no progress: they log nothing, and use little processor time."""

    def __init__(self) -> None:
        self._since = monotonic()
        self._lines, self._cpu = 0, 0.0

    def stalled(self, children: Sequence[Child]) -> float:
        """Return for how many seconds none of the children has made progress."""
        lines, cpu = sum(child.line_count for child in children), sum(child.cpu_seconds() for child in children)
        # With fewer children than before, both sums are smaller.
        if lines != self._lines or not 0 <= cpu - self._cpu < STALL_CPU_SECONDS:
            self._since, self._lines, self._cpu = monotonic(), lines, cpu
        return monotonic() - self._since


def readable(line: str) -> str:
    """Format a line of our logs for people; other lines are returned unchanged."""
    data = read_object(line.encode())
    if data is None:
        return line
    message = data.pop("event", "")
    facts = [f"{key}={value}" for key, value in data.items() if key not in ("level", "timestamp")]
    return f"{message} ({', '.join(facts)})" if facts else str(message)


def _signal(child: Child, number: signal.Signals) -> None:
    if child.process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(child.process.pid, number)


def _die_with_parent() -> Callable[[], None] | None:
    """Return a function that makes the kernel kill the child when this process ends; it runs before exec."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def set_death_signal() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return set_death_signal
