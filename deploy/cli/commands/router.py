from pathlib import Path

import click

from deploy.cli.options import config_option, load


@click.command(short_help="Route events to integrations.")
@config_option
@click.pass_context
def router(context: click.Context, folder: Path) -> None:
    """Route events to the integrations that want them. Routers share the work."""
    import asyncio

    from deploy.runtime.reload import RouterRules, Take
    from deploy.runtime.workers import prepare, run

    configuration = load(folder, "sources")
    prepare(configuration)

    from streams.routing.router import make_router
    from streams.routing.ruleset import CurrentRules
    from streams.worker.pipeline import ConsumerPipeline
    from streams.worker.worker import Worker

    settings = configuration.settings
    holder = CurrentRules(configuration.rule_set())

    def begin(worker: Worker) -> Take:
        def make() -> ConsumerPipeline:
            return make_router(
                holder,
                settings.topics,
                settings.broker,
                worker.producer,
                settings.router,
                configuration.suppression.users,
                fail=worker.fail,
                grace=settings.grace,
                remake=make,
            )

        def restart() -> None:
            for step in (worker.remove("router"), worker.add(make())):
                asyncio.run_coroutine_threadsafe(step, loop).result()

        loop = asyncio.get_running_loop()
        worker.pipelines.append(make())
        return RouterRules(holder, configuration, restart).take

    context.exit(run("router", configuration, lambda: load(folder, "sources"), begin))
