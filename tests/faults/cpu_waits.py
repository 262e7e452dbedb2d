"""Measure how long processes wait for a CPU, since this delays their commits on a loaded machine."""

import time
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

NOTES = 500
"""Samples that are kept."""


class CpuWaits:
    """Samples of the seconds that processes have waited for a processor, by their IDs."""

    def __init__(self) -> None:
        self._notes: deque[tuple[float, dict[int, float]]] = deque(maxlen=NOTES)

    def note(self, pids: Iterable[int]) -> None:
        """Take a sample of these processes."""
        self._notes.append((time.time(), {pid: _waited(pid) for pid in pids}))

    def before(self, at: float, seconds: float, pids: Sequence[int]) -> float:
        """Return the time before `at` since which the processes had `seconds` without waiting for a CPU."""
        left, begin = seconds, at
        for (after, later), (before, earlier) in pairwise(reversed(self._notes)):
            if before >= at:
                continue
            waits = sum(max(0.0, later[pid] - earlier[pid]) for pid in pids if pid in later and pid in earlier)
            free = max(0.0, min(after, at) - before - waits)
            if free >= left:
                return max(before, min(after, at) - left - waits)
            left -= free
            begin = before
        return begin - left


def _waited(pid: int) -> float:
    """Return the seconds that all threads of a process have waited; 0 if it has ended or the kernel has no figure."""
    total = 0
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError, ValueError, IndexError):
                total += int((thread / "schedstat").read_text().split()[1])
    return total / 1e9
