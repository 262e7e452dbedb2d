from pathlib import Path

import click

from deploy.commands.options import config_option, load


@click.command()
@config_option
@click.pass_context
def router(context: click.Context, folder: Path) -> None:
    """Route events to the integrations that want them. Routers share the work."""
    from deploy.reload import Reloader, RouterRules
    from deploy.workers import prepare, run

    configuration = load(folder, "sources")
    prepare(configuration)

    from streams.router import make_router
    from streams.ruleset import Holder

    settings = configuration.settings
    holder = Holder(configuration.rule_set())
    rules = RouterRules(holder, configuration)
    context.exit(
        run(
            "router",
            Reloader(configuration, lambda: load(folder, "sources"), rules.take),
            lambda producer, fail: [
                make_router(
                    holder,
                    settings.topics,
                    settings.broker,
                    producer,
                    settings.router,
                    fail=fail,
                    grace=settings.grace,
                )
            ],
        )
    )
