import time
from pathlib import Path

import click

from deploy.cli.options import broker_errors, config_option, load
from deploy.cli.selection import json_option
from deploy.terminal.escaping import echo_json

WATCH_SECONDS = 2.0


@click.command(short_help="Show processes, lag and paused integrations.")
@config_option
@click.option("--watch", is_flag=True, help="Show it again every 2 seconds, until Ctrl-C.")
@json_option
@click.pass_context
def status(context: click.Context, folder: Path, *, watch: bool, as_json: bool) -> None:
    """Show what every process reports: rules, lag, and which integrations are paused and why.

    Exits with 1 if an operator must act: a vendor rejects the credentials, a process is failing or makes no progress,
    or nobody routes events or delivers to an integration. A failing vendor is probed and needs no action.
    """
    configuration = load(folder)

    from deploy.cli import status_screen
    from deploy.terminal.console import PlainConsole
    from streams.operations.reading import OperationsReader

    broker = configuration.settings.broker
    with broker_errors(broker), OperationsReader(broker, configuration.topics) as reader:
        while True:
            overview = reader.look(list(configuration.integrations))
            dead = reader.count_dead()
            if as_json:
                echo_json(overview.data(dead), indent=None if watch else 2)
            else:
                console = PlainConsole(width=None if PlainConsole().is_terminal else status_screen.WIDTH)
                if watch:
                    console.clear()
                for part in status_screen.render(overview, dead):
                    console.print(part)
            if not watch:
                break
            time.sleep(WATCH_SECONDS)
    context.exit(1 if overview.problems else 0)
