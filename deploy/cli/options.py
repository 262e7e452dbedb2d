"""Options and helpers that several commands share, for the configuration folder and the names in it.

Command modules import the rest inside functions, because `turnout --help` and shell completion import every module.
"""

import gc
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

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


def folder_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """Let a command take its configuration folder as an argument as well as by --config."""

    @click.argument("directory", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
    @wraps(command)
    def with_folder(*arguments: Any, directory: Path | None, folder: Path, **options: Any) -> Any:
        if directory is None:
            return command(*arguments, folder=folder, **options)
        if click.get_current_context().get_parameter_source("folder") is ParameterSource.COMMANDLINE:
            raise click.UsageError("name the folder once, as an argument or with --config")
        return command(*arguments, folder=directory, **options)

    return with_folder


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
