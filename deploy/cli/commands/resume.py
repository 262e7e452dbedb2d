from pathlib import Path

import click

from deploy.cli.options import config_option
from deploy.cli.ordering import give_order, name_argument
from deploy.cli.selection import json_option


@click.command(short_help="Resume deliveries to an integration.")
@name_argument
@config_option
@json_option
def resume(name: str, folder: Path, *, as_json: bool) -> None:
    """Resume deliveries to an integration that was paused by `turnout pause`."""
    from streams.records.control import ControlAction

    give_order(folder, name, ControlAction.RESUMED, as_json=as_json)
