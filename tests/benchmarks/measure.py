"""Run a child process on one core, and measure its CPU seconds and memory; shared by benchmarks."""

import os
import subprocess
import sys
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def cores() -> tuple[int, int]:
    """Return the core of the measured process, and the core for everything else; equal if there is only one."""
    there = sorted(os.sched_getaffinity(0))
    return there[0], there[-1]


def start(*arguments: str, core: int | None = None, folder: Path | None = None) -> subprocess.Popen[str]:
    """Start `python -m …` as a child in a folder, optionally on one core, with standard output as text."""
    pin = ["taskset", "-c", str(core)] if core is not None else []
    return subprocess.Popen([*pin, sys.executable, "-m", *arguments], stdout=subprocess.PIPE, text=True, cwd=folder)


def cpu(pid: int) -> float:
    """Return the CPU seconds, user and system, that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory(pid: int) -> float:
    """Return the resident memory of a process in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024
