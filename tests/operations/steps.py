"""Steps that several procedures share."""

import asyncio
import signal
from pathlib import Path

from tests.faults.harness import Process, Stage
from tests.support.ports import free_port

STOP_SECONDS = 30.0


async def more(stage: Stage, count: int = 300) -> None:
    """Wait until the vendor has received more events."""
    beyond = len(stage.received) + count
    await stage.until(lambda: len(stage.received) > beyond, 240)


async def stop(process: Process) -> None:
    """Stop a process like systemd, Docker and Kubernetes."""
    assert await process.end(signal.SIGTERM, STOP_SECONDS) == 0, process.log.read_text()[-3000:]


async def replace(stage: Stage, old: Process, *arguments: str, code: Path | None = None) -> Process:
    """Start the new process, then stop the old one."""
    new = await stage.start(*arguments, code=code).ready(180)
    await more(stage)
    await stop(old)
    return new


async def restart_collector(stage: Stage, code: Path | None = None) -> None:
    """Replace the stage's first collector, with other code if given, and wait until the new one serves."""
    await stop(stage.processes[1])
    stage.start("collector", code=code)
    await stage.serving()


async def run(stage: Stage, *arguments: str) -> str:
    """Run a command to its end; return its output."""
    command = stage.start(*arguments)
    assert await command.end(0, 90) == 0, command.log.read_text()
    return command.log.read_text()


async def audited(stage: Stage, text: str) -> None:
    """Wait until the audit balances with this output; it includes events a second after routers commit them."""
    async with asyncio.timeout(120):
        while text not in await run(stage, "audit"):
            await asyncio.sleep(0.2)


def with_ledger(stage: Stage, more: str = "sample_per_second: 20") -> int:
    """Add a ledger to the settings, with one more of its settings; return its port."""
    port = free_port()
    settings = stage.folder / "turnout.yaml"
    settings.write_text(f"{settings.read_text()}ledger: {{folder: the-ledger, port: {port}, {more}}}\n")
    return port


async def start_all(stage: Stage, *kinds: str) -> list[Process]:
    """Start processes at the same time, and wait until they are ready."""
    return list(await asyncio.gather(*(stage.start(kind).ready(180) for kind in kinds)))


async def end_all(stage: Stage) -> None:
    """End every process, whatever its state."""
    await asyncio.gather(*(process.end(signal.SIGTERM, 60) for process in stage.processes))


async def start_anew(stage: Stage) -> None:
    """Create missing topics and start all processes; only events accepted from now on must arrive."""
    await run(stage, "topics", "--create")
    stage.start("collector")
    await start_all(stage, "ledger", "forwarder", "router")
    await stage.serving()
    stage.accepted.clear()
