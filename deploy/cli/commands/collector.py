from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from deploy.cli.options import config_option, load


@click.command(short_help="Accept events over HTTP.")
@config_option
@click.pass_context
def collector(context: click.Context, folder: Path) -> None:
    """Accept events over HTTP. Run any number of collectors behind a load balancer."""
    import asyncio

    from deploy.runtime.exposition import Readiness, serve_metrics
    from deploy.runtime.logs import log_ready, log_stopped
    from deploy.runtime.reload import Reloader
    from deploy.runtime.workers import prepare
    from deploy.terminal.failures import Failed, Misconfigured
    from streams.kafka.settings import BrokerError

    configuration = load(folder, "sources")
    prepare(configuration)

    from streams.collector.server import Collector
    from streams.kafka.producer import Producer
    from streams.operations.reporter import Reporter
    from transforms import RuleError

    settings = configuration.settings

    async def serve(facts: Mapping[str, Any]) -> int:
        reloader = Reloader(configuration, lambda: load(folder, "sources"))
        producer = Producer(settings.broker, client_id=f"{settings.prefix}.collector")
        try:
            server = Collector(
                settings.collector.resolve_paths(folder), lambda: reloader.current.sources, settings.topics, producer
            )
        except OSError as error:
            raise Misconfigured([RuleError(f"collector.client.file: {error.strerror}", path=error.filename)]) from error
        reporter = Reporter("collector", settings.broker, settings.topics.status, lambda: reloader.current.version)
        async with reloader.running(), reporter.running() as report:

            def ready() -> None:
                report()
                readiness.started()
                log_ready("collector", host=server.address[0], port=server.address[1], **facts)

            code = await server.serve(ready)
            reporter.is_clean = code == 0
            log_stopped("collector", code)
            return code

    readiness = Readiness()
    try:
        with serve_metrics("collector", settings, readiness) as facts:
            context.exit(asyncio.run(serve(facts)))
    except BrokerError as error:
        raise Failed(str(error)) from error
