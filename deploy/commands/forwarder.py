from pathlib import Path

import click

from deploy.commands.options import config_option, load


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
@config_option
@click.pass_context
def forwarder(context: click.Context, names: tuple[str, ...], folder: Path) -> None:
    """Deliver to these integrations, or to all. Forwarders of an integration share its work."""
    from deploy.mistakes import hint_at
    from deploy.reload import Reloader, say_restarts
    from deploy.workers import prepare, run

    needed = [f"integrations/{name}.yaml" for name in names] or ["integrations"]
    configuration = load(folder, *needed)
    integrations = configuration.integrations
    for name in names:
        if name not in integrations:
            raise click.BadParameter(f"no integration is called {name!r} ({hint_at(name, sorted(integrations))})")
    if not integrations:
        raise click.UsageError(f"there is no integration in {folder / 'integrations'}")
    prepare(configuration)

    from streams.delivery import make_delivery

    settings = configuration.settings
    context.exit(
        run(
            "forwarder",
            Reloader(configuration, lambda: load(folder, *needed), say_restarts),
            lambda producer, fail: [
                make_delivery(
                    name,
                    integrations[name].make(),
                    integrations[name].delivery,
                    settings.topics,
                    settings.broker,
                    producer,
                    fail=fail,
                    grace=settings.grace,
                )
                for name in dict.fromkeys(names) or integrations
            ],
        )
    )
