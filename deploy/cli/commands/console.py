from pathlib import Path

import click

from deploy.cli.options import config_option, load


@click.command(short_help="Show everything in a browser.")
@config_option
@click.pass_context
def console(context: click.Context, folder: Path) -> None:
    """Show in a browser what happens to events, and why.

    Needs Kafka, the configuration folder, and a ledger. Prints a link with a code that can be used once and for 10
    minutes, unless `console.oidc` in turnout.yaml says who may log in.
    """
    from deploy.runtime.console import run
    from deploy.runtime.logs import set_up
    from deploy.terminal.failures import listen

    configuration = load(folder)
    settings = configuration.settings.console
    set_up()
    with listen(settings.host, settings.port) as listener:
        context.exit(run(configuration, listener, lambda: load(folder)))
