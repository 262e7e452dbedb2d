"""Start child processes together, and stop all of them when one ends."""

import asyncio
import ctypes
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import orjson

from deploy.runtime.logs import READY
from deploy.terminal.failures import Failed

MAX_LINES = 20
_PR_SET_PDEATHSIG = 1


@dataclass
class Child:
    """A running process.

    `lines` are the last lines of its output, `facts` the fields that it logged when it was ready, `stop_timeout` the
    seconds that it may take to stop. If a process that is not `essential` ends, that is reported, and the others go on.
    """

    name: str
    process: asyncio.subprocess.Process
    stop_timeout: float
    essential: bool = True
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=MAX_LINES))
    facts: Mapping[str, Any] = field(default_factory=dict)
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    def exit_reason(self) -> str:
        """Describe in one line why the process ended."""
        code = self.process.returncode
        how = f"was killed by {signal.Signals(-code).name}" if code and code < 0 else f"ended with exit code {code}"
        last = readable(self.lines[-1]) if self.lines else "no output"
        return f"{self.name} {how}: {last}"


def turnout_command(*arguments: str) -> list[str]:
    """Return the command line of a child process that runs `turnout`.

    With -P, packages named `streams` or `deploy` in the working directory do not shadow Turnout's own.
    """
    return [sys.executable, "-P", "-m", "deploy.cli.main", *arguments]


class Supervisor:
    """Starts children, each in its own process group, and stops them in reverse order.

    With groups of their own, a terminal's Ctrl-C does not stop all of them at once. On Linux they are killed if this
    process ends in any way. `report` is called with a child's name and each warning in its logs.
    """

    def __init__(self, report: Callable[[str, str], None]) -> None:
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

    async def until_ready(self, children: Sequence[Child], timeout: float) -> None:
        """Wait until these children are ready; raises Failed if any child ends, or after `timeout` seconds."""
        ended = asyncio.create_task(self.until_one_ends())
        try:
            async with asyncio.timeout(timeout):
                for child in children:
                    ready = asyncio.create_task(child.ready.wait())
                    await asyncio.wait([ready, ended], return_when=asyncio.FIRST_COMPLETED)
                    ready.cancel()
                    if ended.done():
                        raise Failed(ended.result().exit_reason())
        except TimeoutError:
            slow = [child.name for child in children if not child.ready.is_set()]
            raise Failed(f"not ready after {timeout:.0f} s: {', '.join(slow)}") from None
        finally:
            ended.cancel()

    async def until_ready_or_ended(self, child: Child, timeout: float) -> None:
        """Wait until a child that is not essential is ready or has ended, or for `timeout` seconds."""
        tasks = [asyncio.create_task(child.ready.wait()), asyncio.create_task(child.process.wait())]
        await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()

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
            data = _parse(line)
            if data is not None and data.get("event") == READY:
                child.facts = data
                child.ready.set()
                continue
            child.lines.append(line.decode(errors="replace").rstrip())
            if data is not None and data.get("level") in ("warning", "error", "critical"):
                self._report(child.name, readable(child.lines[-1]))


def readable(line: str) -> str:
    """Format a line of our logs for people; other lines are returned unchanged."""
    data = _parse(line.encode())
    if data is None:
        return line
    message = data.pop("event", "")
    facts = [f"{key}={value}" for key, value in data.items() if key not in ("level", "timestamp")]
    return f"{message} ({', '.join(facts)})" if facts else str(message)


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        data = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return data if isinstance(data, dict) else None


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
