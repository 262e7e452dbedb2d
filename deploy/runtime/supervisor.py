"""Child processes that begin together and end together, whatever becomes of any of them."""

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

KEPT_LINES = 20
_PR_SET_PDEATHSIG = 1


@dataclass
class Child:
    """A running process.

    `lines` are the last that it wrote, `facts` what it logged when it was ready, `patience` how many seconds its stop
    may take. The end of one that is not `essential` is reported, and the others go on.
    """

    name: str
    process: asyncio.subprocess.Process
    patience: float
    essential: bool = True
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))
    facts: Mapping[str, Any] = field(default_factory=dict)
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    def exit_reason(self) -> str:
        """Why the process is gone, in one line."""
        code = self.process.returncode
        how = f"was killed by {signal.Signals(-code).name}" if code and code < 0 else f"ended with exit code {code}"
        last = readable(self.lines[-1]) if self.lines else "it said nothing"
        return f"{self.name} {how}: {last}"


def turnout_command(*arguments: str) -> list[str]:
    """Return the command line of a child process that runs `turnout`.

    With -P, packages named `streams` or `deploy` in the working directory do not shadow Turnout's own.
    """
    return [sys.executable, "-P", "-m", "deploy.cli.main", *arguments]


class Supervisor:
    """Starts children, each in a process group of its own, and stops them in the reverse order.

    The children's groups keep a terminal's Ctrl-C from them, which would stop all at once. On Linux they are killed
    when this process is gone, however that happens. `complain` gets a child's name and each warning of its logs.
    """

    def __init__(self, complain: Callable[[str, str], None]) -> None:
        self._children: list[Child] = []
        self._readers: list[asyncio.Task[None]] = []
        self._complain = complain
        self._stopping = False

    async def start(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        patience: float = 2.0,
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
        child = Child(name, process, patience, essential)
        self._children.append(child)
        self._readers.append(asyncio.create_task(self._read(child)))
        return child

    async def until_ready(self, children: Sequence[Child], timeout: float) -> None:
        """Wait until these have logged that they work; raises Failed when any child ends, or after some seconds."""
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

    async def until_one_ends(self) -> Child:
        """Wait until an essential child has ended, and said its last."""
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
        """Stop all, the last begun first; who does not end in time is killed."""
        self._stopping = True
        for child in reversed(self._children):
            _signal(child, signal.SIGTERM)
            try:
                await asyncio.wait_for(child.process.wait(), child.patience)
            except TimeoutError:
                self._complain(child.name, f"did not stop within {child.patience:g} s, and is killed")
                self.kill(child)
                await child.process.wait()
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)

    def kill(self, *children: Child) -> None:
        """Kill these, or all."""
        for child in children or self._children:
            _signal(child, signal.SIGKILL)

    async def _read(self, child: Child) -> None:
        await self._read_lines(child)
        if not child.essential and not self._stopping:
            await child.process.wait()
            self._complain(child.name, f"{child.exit_reason()}; all others go on")

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
                self._complain(child.name, readable(child.lines[-1]))


def readable(line: str) -> str:
    """A line of our logs in words; any other as it is."""
    data = _parse(line.encode())
    if data is None:
        return line
    said = data.pop("event", "")
    facts = [f"{key}={value}" for key, value in data.items() if key not in ("level", "timestamp")]
    return f"{said} ({', '.join(facts)})" if facts else str(said)


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
    """What a child calls before it becomes its program, so that the kernel kills it when we are gone."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return ask
