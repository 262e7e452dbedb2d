"""Options and helpers that several commands share, for the configuration folder and the names in it.

Command modules import the rest inside functions, because `turnout --help` and shell completion import every module.
"""

import gc
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deploy.terminal.failures import Failed, Misconfigured

if TYPE_CHECKING:
    from deploy.config.configuration import Configuration
    from streams.kafka.settings import Broker

folder_option = partial(
    click.option, "--config", "folder", type=click.Path(path_type=Path), envvar="TURNOUT_CONFIG", metavar="DIR"
)
config_option = folder_option(
    default=Path(), help="The configuration folder. Default: $TURNOUT_CONFIG, else the current folder."
)


def _reject_folder(context: click.Context, _: click.Parameter, value: tuple[str, ...]) -> None:
    if value:
        raise click.UsageError(f"name the folder with --config: {context.command_path} --config {value[0]}")


no_folder_argument = click.argument("folders", nargs=-1, metavar="", expose_value=False, callback=_reject_folder)
"""Rejects the folder as an argument, which earlier versions allowed, and suggests --config."""


def read(folder: Path) -> "Configuration":
    """Read a configuration without its variables; raises Misconfigured with every error."""
    with paused_gc():
        from deploy.config.configuration import ConfigurationError, read_configuration

        try:
            return read_configuration(folder)
        except ConfigurationError as error:
            raise Misconfigured(error.errors, error.data_files) from None


@contextmanager
def paused_gc() -> Iterator[None]:
    """Pause garbage collection while modules are imported and a folder is read, which saves 10 % of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def load(folder: Path, *needed: str) -> "Configuration":
    """Read a configuration with its variables; raises Misconfigured with every error.

    Unset variables are errors in turnout.yaml and in files whose path within the folder begins with one of `needed`, so
    that a process needs no secrets but its own.
    """
    configuration = read(folder)
    files = tuple(str(folder / name) for name in ("turnout.yaml", *needed))
    unset = [unset.error for unset in configuration.unset if str(unset.error.path).startswith(files)]
    if unset:
        raise Misconfigured(unset, configuration.data_files)
    return configuration


def read_event(file: str) -> bytes:
    """Read the text of one event from a file, or from standard input if `file` is "-"; raises BadParameter."""
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise click.BadParameter(f"cannot read {file}: {error.strerror}") from error


def check_name(kind: str, name: str, known: Collection[str], **details: Any) -> None:
    """Raise BadParameter, with the nearest name, unless `name` is known; `details` are passed to BadParameter."""
    if name in known:
        return
    from deploy.config.diagnostics import hint_at

    raise click.BadParameter(f"no {kind} is called {name!r} ({hint_at(name, sorted(known))})", **details)


@contextmanager
def broker_errors(broker: "Broker") -> Iterator[None]:
    """Check that Kafka can be reached, and raise Failed for broker errors."""
    from streams.kafka.admin import check_reachable
    from streams.kafka.settings import BrokerError

    try:
        check_reachable(broker)
        yield
    except BrokerError as error:
        raise Failed(str(error)) from error
