from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deploy.cli.options import check_name, config_option, load

if TYPE_CHECKING:
    from deploy.config.configuration import Configuration


@click.command(short_help="Deliver events to vendors.")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@config_option
@click.pass_context
def forwarder(context: click.Context, names: tuple[str, ...], folder: Path) -> None:
    """Deliver to these integrations, or to all. Several forwarders of one integration share its partitions."""
    from deploy.runtime.reload import Apply, Deliveries
    from deploy.runtime.workers import prepare, run

    needed = [f"integrations/{name}.yaml" for name in names] or ["integrations"]
    configuration = load(folder, *needed)
    integrations = configuration.integrations
    for name in names:
        check_name("integration", name, integrations)
    if not integrations:
        raise click.UsageError(f"no integrations in {folder / 'integrations'}")
    prepare(configuration)

    from streams.delivery.sinks.factory import make_delivery
    from streams.kafka.offsets import MemoryBudget
    from streams.operations.follower import ControlFollower
    from streams.worker.pipeline import ConsumerPipeline
    from streams.worker.worker import Worker

    memory = MemoryBudget(configuration.settings.fetched_bytes)

    def make(worker: Worker, follower: ControlFollower, name: str, configuration: "Configuration") -> ConsumerPipeline:
        settings, integration = configuration.settings, configuration.integrations[name]
        return make_delivery(
            name,
            integration.make(),
            integration.delivery,
            settings.topics,
            settings.broker,
            worker.producer,
            fail=worker.fail,
            grace=settings.grace,
            shadow=integration.mode == "shadow",
            remake=partial(make, worker, follower, name, configuration),
            follower=follower,
            memory=memory,
            on_gap=settings.on_gap,
        )

    def begin(worker: Worker) -> Apply:
        settings = configuration.settings
        follower = ControlFollower(settings.broker, configuration.topics.control, f"{settings.prefix}.forwarder")
        worker.background.append(follower.run)
        make_one = partial(make, worker, follower)
        worker.pipelines.extend(make_one(name, configuration) for name in dict.fromkeys(names) or integrations)
        return Deliveries(worker, make_one, configuration, names).apply

    context.exit(run("forwarder", configuration, lambda: load(folder, *needed), begin))
