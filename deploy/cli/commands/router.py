from pathlib import Path

import click

from deploy.cli.options import config_option, load


@click.command(short_help="Route events to integrations.")
@config_option
@click.pass_context
def router(context: click.Context, folder: Path) -> None:
    """Decide which integrations get each event. Several routers share the partitions."""
    import asyncio

    from deploy.runtime.reload import Apply, RouterRules
    from deploy.runtime.rules_recorder import RulesRecorder
    from deploy.runtime.workers import prepare, run
    from deploy.terminal.failures import Failed

    configuration = load(folder, "sources")
    prepare(configuration)
    recorder = RulesRecorder()
    if not recorder.record(configuration):
        raise Failed("cannot record the rules in Kafka; see the log")

    from streams.routing.router import make_router
    from streams.routing.ruleset import CurrentRules
    from streams.worker.pipeline import ConsumerPipeline
    from streams.worker.worker import Worker

    settings = configuration.settings
    current_rules = CurrentRules(configuration.rule_set())

    def begin(worker: Worker) -> Apply:
        def make() -> ConsumerPipeline:
            return make_router(
                current_rules,
                settings.topics,
                settings.broker,
                worker.producer,
                settings.router,
                configuration.suppression.users,
                fail=worker.fail,
                grace=settings.grace,
                memory=settings.memory,
                on_gap=settings.on_gap,
                remake=make,
            )

        def restart() -> None:
            for step in (worker.remove("router"), worker.add(make())):
                asyncio.run_coroutine_threadsafe(step, loop).result()

        loop = asyncio.get_running_loop()
        worker.pipelines.append(make())
        return RouterRules(current_rules, configuration, restart, recorder.record).apply

    context.exit(run("router", configuration, lambda: load(folder, "sources"), begin))
