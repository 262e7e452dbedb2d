from pathlib import Path

import click

from deploy.cli.options import config_option, load


@click.command(short_help="Record the outcomes of every event.")
@config_option
@click.pass_context
def ledger(context: click.Context, folder: Path) -> None:
    """Record the outcomes of every event, and serve `turnout why`, `audit` and `counts`.

    Reads outcomes, rejected events and dead letters from Kafka into the folder `ledger.folder`, and checks every hour
    that the books balance. One process writes to a folder or database; a second one exits with 2.
    """
    from deploy.runtime.exposition import Readiness, serve_metrics
    from deploy.runtime.ledger import opened_store, run
    from deploy.runtime.workers import prepare
    from deploy.terminal.failures import listen

    configuration = load(folder)
    settings = configuration.settings
    prepare(configuration)
    readiness = Readiness()
    with (
        opened_store(configuration) as store,
        listen(settings.ledger.host, settings.ledger.port) as listener,
        serve_metrics("ledger", settings, readiness) as facts,
    ):
        context.exit(run(configuration, store, listener, lambda: load(folder), facts, readiness))
