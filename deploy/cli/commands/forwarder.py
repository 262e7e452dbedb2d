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
    """Deliver to these integrations, or to all. Forwarders of an integration share its work."""
    from deploy.runtime.reload import Deliveries, Take
    from deploy.runtime.workers import prepare, run

    needed = [f"integrations/{name}.yaml" for name in names] or ["integrations"]
    configuration = load(folder, *needed)
    integrations = configuration.integrations
    for name in names:
        check_name("integration", name, integrations)
    if not integrations:
        raise click.UsageError(f"there is no integration in {folder / 'integrations'}")
    prepare(configuration)

    from streams.delivery.sinks.factory import make_delivery
    from streams.operations.follower import ControlFollower
    from streams.worker.worker import ConsumerPipeline, Worker

    def make(worker: Worker, follower: ControlFollower, name: str, configuration: "Configuration") -> ConsumerPipeline:
        settings, integration = configuration.settings, configuration.integrations[name]
        pipeline = make_delivery(
            name,
            integration.make(),
            integration.delivery,
            settings.topics,
            settings.broker,
            worker.producer,
            fail=worker.fail,
            grace=settings.grace,
            shadow=integration.mode == "shadow",
        )
        pipeline.started = [partial(follower.prepare, pipeline), *pipeline.started]
        pipeline.again = partial(make, worker, follower, name, configuration)
        return pipeline

    def begin(worker: Worker) -> Take:
        follower = ControlFollower(
            configuration.settings.broker,
            configuration.topics.control,
            f"{configuration.settings.prefix}.forwarder",
        )
        worker.beside.append(follower.run)
        make_one = partial(make, worker, follower)
        worker.pipelines = [make_one(name, configuration) for name in dict.fromkeys(names) or integrations]
        return Deliveries(worker, make_one, configuration, names).take

    context.exit(run("forwarder", configuration, lambda: load(folder, *needed), begin))
