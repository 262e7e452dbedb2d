"""A plug-in of pytest that prints the CPU time of a test run: `make test` is to stay under five minutes of it."""

import os

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the CPU time of this process and of its children that have ended."""
    times = os.times()
    own, children = times.user + times.system, times.children_user + times.children_system
    terminalreporter.write_line(f"CPU time: {own + children:.0f} s, {children:.0f} s of it in child processes")
