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
        """Print the message, as click does for a failed command."""
        echo(f"turnout: {self.message}", err=True)


class Misconfigured(click.ClickException):
    """The configuration is invalid; exit code 2. `data_files` are the files it names, with their stamps when read."""

    exit_code = 2

    def __init__(self, errors: "Sequence[RuleError]", data_files: "Mapping[Path, Stamp | None] | None" = None) -> None:
        super().__init__("")
        self.errors = errors
        self.data_files = data_files or {}

    def show(self, file: object = None) -> None:  # noqa: ARG002
        """Print each error with its line."""
        from deploy.config.diagnostics import render

        echo(render(self.errors), err=True)


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket; raises Failed if the port is in use."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise Failed(f"cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}") from error
