"""How a worker process begins and runs."""

import asyncio
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from deploy.config.configuration import Configuration
from deploy.runtime.exposition import serving_metrics
from deploy.runtime.logs import say_ready, set_up
from deploy.runtime.reload import Reloader, Take
from deploy.terminal.failures import Failed
from streams.kafka.admin import check_reachable, find_mismatches
from streams.kafka.settings import BrokerError

if TYPE_CHECKING:
    from faust.types import TP

    from streams.worker.worker import Worker

    Begin = Callable[[Worker], Take]


def prepare(configuration: Configuration) -> None:
    """Set up logs and the event loop, and look at the topics; raises Failed where they are not as they must be."""
    set_up()
    with suppress(ImportError):
        import uvloop

        # Faust takes its loop from the policy when it is imported.
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    check_topics(configuration)


def check_topics(configuration: Configuration, timeout: float = 10.0) -> None:
    """Raise Failed unless Kafka can be reached, and within `timeout` seconds has each topic as it is declared.

    Optional topics may be missing.
    """
    broker, declared = configuration.settings.broker, configuration.declared
    try:
        check_reachable(broker)
        found = find_mismatches(broker, declared, timeout)
    except BrokerError as error:
        raise Failed(str(error)) from error
    mismatches = [each for each in found if each.partitions is not None or not each.topic.optional]
    if mismatches:
        folder = configuration.folder
        remedy = f"create them with: turnout topics --create --config {folder}"
        if any(mismatch.partitions is not None for mismatch in mismatches):
            remedy = f"see: turnout topics --config {folder}"
        raise Failed(f"{'; '.join(map(str, mismatches))} ({remedy})")


def run(process: str, configuration: Configuration, read: Callable[[], Configuration], begin: "Begin") -> int:
    """Run a worker until it is told to stop; returns the exit code.

    `read` reads the folder again when it has changed. `begin` gives the worker its pipelines, and says how it takes up
    what has changed.
    """
    from streams.kafka.producer import Producer
    from streams.operations.description import describe_worker
    from streams.operations.reporter import Reporter
    from streams.worker.lag import keep_lag
    from streams.worker.worker import StartError, Worker

    settings, topics = configuration.settings, configuration.topics

    async def work(facts: Mapping[str, Any]) -> int:
        producer = Producer(
            settings.broker,
            client_id=f"{topics.prefix}.{process}",
            on_failure=lambda error: worker.fail(f"Kafka did not take a batch: {type(error).__name__}"),
        )
        worker = Worker(producer)
        lags: dict[TP, int] = {}
        reloader = Reloader(configuration, read, begin(worker))
        reporter = Reporter(
            process,
            settings.broker,
            topics.status,
            lambda: reloader.current.version,
            lambda: describe_worker(worker, lags),
        )
        beside: list[asyncio.Task[None]] = []

        try:
            async with reporter.running() as report:

                def ready() -> None:
                    beside.append(asyncio.create_task(keep_lag(settings.broker, lambda: worker.pipelines, latest=lags)))
                    report()
                    say_ready(process, version=configuration.version, **facts)

                async with reloader.running():
                    code = await worker.run(ready)
                reporter.is_clean = code == 0
            if worker.is_stuck:
                # asyncio would wait for the app's tasks, which do not heed their cancellation.
                os._exit(code)
            return code
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)

    try:
        with serving_metrics(process, settings) as facts:
            return asyncio.run(work(facts))
    except (BrokerError, StartError) as error:
        raise Failed(str(error)) from error
