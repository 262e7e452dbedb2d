"""`turnout up` on a machine that has no time for it."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.running_up import Up

pytestmark = pytest.mark.operations

LOOPS = 12
STARTS = int(os.environ.get("TURNOUT_TESTS_STARTS", "2"))
"""Starts in a row; an installation on a laptop that has other work must not fail once in ten."""

MAX_SILENCE_SECONDS = 10.0
"""Seconds without a line: lines come every 5 seconds, and this test also gets little processor time."""


@contextmanager
def busy_loops(number: int) -> Iterator[None]:
    """Keep processors busy with loops at normal priority."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def longest_silence(up: Up) -> float:
    """Start it, and return the longest time without a new line until it accepts events, in seconds."""
    up.start()
    longest, since, seen = 0.0, time.monotonic(), 0

    def is_ready() -> bool:
        nonlocal longest, since, seen
        output = up.output
        longest = max(longest, time.monotonic() - since)
        if len(output) > seen:
            since, seen = time.monotonic(), len(output)
        return "Press Ctrl-C to stop" in output

    up.until(is_ready, 600)
    return longest


def test_starts_on_a_busy_machine(tmp_path: Path):
    """Beside 12 busy loops each start succeeds, is never silent for long, and delivers an event."""
    with busy_loops(LOOPS):
        for number in range(STARTS):
            began = time.monotonic()
            up = Up(tmp_path / str(number))
            try:
                silence = longest_silence(up)
                ready = time.monotonic() - began
                (curl,) = re.findall("^curl .*$", up.output, re.MULTILINE)
                subprocess.run(f"{curl} -sf", shell=True, capture_output=True, check=True)  # noqa: S602
                for name in ("file", "ga4", "webhook"):
                    up.until(lambda name=name, up=up: re.search(f"^  {name} +delivered", up.output, re.MULTILINE), 300)
                delivered = time.monotonic() - began
                up.process.send_signal(signal.SIGINT)
                assert up.process.wait(120) == 0
                assert not up.children()
            finally:
                up.close()
            print(f"start {number}: ready {ready:.0f} s, delivered {delivered:.0f} s, silent {silence:.1f} s")
            assert silence < MAX_SILENCE_SECONDS, up.output
