"""Send commands to forwarders, for `turnout pause`, `resume` and `probe`."""

import getpass
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deploy.cli.options import broker_errors, check_name, load
from deploy.terminal.escaping import echo, echo_json
from deploy.terminal.failures import Failed

if TYPE_CHECKING:
    from streams.records.control import ControlAction

name_argument = click.argument("name")


def give_order(folder: Path, name: str, action: "ControlAction", *, as_json: bool) -> None:
    """Send a command for an integration, wait until its forwarders confirm it, and print the result."""
    configuration = load(folder)
    check_name("integration", name, configuration.integrations)

    from streams.operations import orders

    broker, who = configuration.settings.broker, f"{getpass.getuser()}@{socket.gethostname()}"
    with broker_errors(broker):
        try:
            given = orders.give_order(broker, configuration.topics, name, action, who)
        except orders.PausedError as error:
            raise Failed(f"{name} is {error} (resume it: turnout resume {name})") from error
    if not as_json:
        echo(given.sentence())
        return
    order = given.order
    done = {"integration": name, "action": action, "who": order.who, "when": order.when, "changed": given.changed}
    echo_json({**done, "forwarders": given.forwarders, "obeyed": given.obeyed}, indent=None)
