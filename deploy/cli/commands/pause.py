from pathlib import Path

import click

from deploy.cli.options import config_option
from deploy.cli.ordering import give_order, name_argument
from deploy.cli.selection import json_option


@click.command(short_help="Pause deliveries to an integration.")
@name_argument
@config_option
@json_option
def pause(name: str, folder: Path, *, as_json: bool) -> None:
    """Send nothing to this integration until `turnout resume`, also after restarts of forwarders.

    Requests in flight are finished. Events wait in Kafka until its retention removes them.
    """
    from streams.records.control import ControlAction

    give_order(folder, name, ControlAction.PAUSED, as_json=as_json)
