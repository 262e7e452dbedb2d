from pathlib import Path

import click

from deploy.cli.options import config_option
from deploy.cli.ordering import give_order, name_argument
from deploy.cli.selection import json_option


@click.command(short_help="Try a failing vendor now.")
@name_argument
@config_option
@json_option
def probe(name: str, folder: Path, *, as_json: bool) -> None:
    """Make forwarders try the vendor now instead of waiting for the next probe.

    Changes nothing while the vendor accepts deliveries. Deliveries in the retry topic still wait for `retry_delay`.
    """
    from streams.records.control import ControlAction

    give_order(folder, name, ControlAction.PROBE, as_json=as_json)
