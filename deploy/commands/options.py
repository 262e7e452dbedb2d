"""What several commands share: the configuration folder, and reading it."""

from pathlib import Path

import click

from deploy.configuration import Configuration, ConfigurationError, read_configuration
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


def load(folder: Path) -> Configuration:
    """The configuration in a folder; raises Misconfigured with every mistake."""
    try:
        return read_configuration(folder)
    except ConfigurationError as error:
        raise Misconfigured(error.mistakes) from None


def load_whole(folder: Path) -> Configuration:
    """The same for a worker, that needs every environment variable which the files name."""
    configuration = load(folder)
    if configuration.unset:
        raise Misconfigured([unset.error for unset in configuration.unset])
    return configuration
