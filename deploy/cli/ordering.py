"""Give orders to forwarders: the shared part of `turnout pause`, `resume` and `probe`."""

import getpass
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deploy.cli.options import broker_errors, check_name, load
from deploy.terminal.escaping import echo, echo_json
from deploy.terminal.failures import Failed
from streams.plurals import counted

if TYPE_CHECKING:
    from streams.operations.reading import OperationsReader
    from streams.records.control import ControlAction

OBEY_SECONDS = 5.0
"""Seconds that forwarders have to report that they obey."""

name_argument = click.argument("name")


def give_order(folder: Path, name: str, action: "ControlAction", *, as_json: bool) -> None:
    """Send a command for an integration, and wait until its forwarders report that they obey; prints the result."""
    configuration = load(folder)
    check_name("integration", name, configuration.integrations)

    from streams.operations.reading import OperationsReader, send_order
    from streams.parsing.times import rfc3339
    from streams.records.control import Control, ControlAction

    broker, topics = configuration.settings.broker, configuration.topics
    with broker_errors(broker), OperationsReader(broker, topics) as reader:
        reader.catch_up()
        before = reader.paused(name)
        if action is ControlAction.PROBE and before:
            raise Failed(f"{name} is paused by {before.who} since {before.when} (resume it: turnout resume {name})")
        order = Control(action, f"{getpass.getuser()}@{socket.gethostname()}", rfc3339(time.time()))
        changes = action is ControlAction.PROBE or (action is ControlAction.PAUSED) != (before is not None)
        if changes:
            send_order(broker, topics, name, order)
        obeyed, asked = _wait(reader, name, action)
    if as_json:
        done = {"integration": name, "action": action, "who": order.who, "when": order.when}
        echo_json({**done, "changed": changes, "forwarders": asked, "obeyed": obeyed}, indent=None)
        return
    said = {ControlAction.PAUSED: "paused", ControlAction.RESUMED: "resumed", ControlAction.PROBE: "asked to probe"}[
        action
    ]
    if not changes:
        said = f"already paused, by {before.who} since {before.when}" if before else "not paused by hand"
    echo(f"{name} is {said}; {_confirmation(action, obeyed, asked)}")


def _wait(reader: "OperationsReader", name: str, action: "ControlAction") -> tuple[int, int]:
    """Return how many forwarders report that they obey, and how many deliver to the integration."""
    from streams.operations.overview import make_overview
    from streams.records.control import ControlAction
    from streams.records.status import DeliveryState

    deadline = time.monotonic() + OBEY_SECONDS
    while True:
        reader.catch_up()
        (row,) = make_overview(reader.reports, [name], {}, time.time()).integrations
        vendors = [share.pipeline.vendor for share in row.shares if share.pipeline.vendor]
        held = sum(vendor.state is DeliveryState.PAUSED for vendor in vendors)
        obeyed = held if action is ControlAction.PAUSED else len(vendors) - held
        if obeyed == len(vendors) or time.monotonic() > deadline:
            return obeyed, len(vendors)
        time.sleep(0.2)


def _confirmation(action: "ControlAction", obeyed: int, asked: int) -> str:
    from streams.records.control import ControlAction

    if not asked:
        return "no forwarder reports that it delivers to it, and the next one to start obeys"
    if action is ControlAction.PROBE:
        return f"{counted(asked, 'forwarder delivers', 'forwarders deliver')} to it"
    if obeyed < asked:
        return f"only {obeyed} of {counted(asked, 'forwarder')} confirmed it within {OBEY_SECONDS:.0f} s"
    return f"{counted(asked, 'forwarder')} confirmed it"
