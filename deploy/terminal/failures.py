"""End a failed command with one line and an exit code."""

import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deploy.terminal.escaping import echo

if TYPE_CHECKING:
    from streams.steps.enrichment.files import Stamp
    from transforms import RuleError


class Failed(click.ClickException):
    """The work failed; exit code 1."""

    exit_code = 1

    def show(self, file: object = None) -> None:  # noqa: ARG002
        """Print the line."""
        echo(f"turnout: {self.message}", err=True)


class Misconfigured(click.ClickException):
    """The configuration has mistakes; exit code 2. `data_files` are those that it names, as they were."""

    exit_code = 2

    def __init__(
        self, mistakes: "Sequence[RuleError]", data_files: "Mapping[Path, Stamp | None] | None" = None
    ) -> None:
        super().__init__("")
        self.mistakes = mistakes
        self.data_files = data_files or {}

    def show(self, file: object = None) -> None:  # noqa: ARG002
        """Print each mistake with its line."""
        from deploy.config.diagnostics import render

        echo(render(self.mistakes), err=True)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; raises Failed where the port is busy."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise Failed(f"cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}") from error
