"""What several commands share: the configuration folder, and reading it."""

import sys
from pathlib import Path

import click

from deploy.config.configuration import Configuration, ConfigurationError, read_configuration
from deploy.failures import Misconfigured

config_option = click.option(
    "--config",
    "folder",
    type=click.Path(path_type=Path),
    default=Path(),
    envvar="TURNOUT_CONFIG",
    metavar="DIR",
    help="The configuration folder; by default $TURNOUT_CONFIG, else the current one.",
)


def read(folder: Path) -> Configuration:
    """The configuration in a folder, for a command that needs no variable; raises Misconfigured with every mistake."""
    try:
        return read_configuration(folder)
    except ConfigurationError as error:
        raise Misconfigured(error.mistakes, error.data_files) from None


def read_event(file: str) -> bytes:
    """Read the text of one event from a file, or from the input if `file` is "-"; raises BadParameter."""
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise click.BadParameter(f"cannot read {file}: {error.strerror}") from error


def load(folder: Path, *needed: str) -> Configuration:
    """The configuration in a folder, for a process that works by it; raises Misconfigured with every mistake.

    A variable that is not set is one in turnout.yaml and in the files whose path within the folder begins with any of
    `needed`: a process wants no secret but its own.
    """
    configuration = read(folder)
    files = tuple(str(folder / name) for name in ("turnout.yaml", *needed))
    unset = [unset.error for unset in configuration.unset if str(unset.error.path).startswith(files)]
    if unset:
        raise Misconfigured(unset, configuration.data_files)
    return configuration
