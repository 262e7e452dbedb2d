"""Start and run a worker process."""

import asyncio
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import structlog

from deploy.config.configuration import Configuration
from deploy.runtime.exposition import Readiness, serve_metrics
from deploy.runtime.logs import log_ready, log_stopped, set_up
from deploy.runtime.reload import Apply, Reloader
from deploy.terminal.failures import Failed
from streams import clock
from streams.kafka.admin import REACH_SECONDS, check_reachable, find_mismatches
from streams.kafka.kafka_time import NEEDS, find_clock_difference
from streams.kafka.settings import Broker, BrokerError

log = structlog.get_logger()

if TYPE_CHECKING:
    from streams.worker.worker import Worker

    Begin = Callable[[Worker], Apply]

TOPICS_TIMEOUT = 10.0
EMBEDDED_TIMEOUT = 120.0
"""Seconds to wait for the broker's answers at the start."""

MINUTES_UP_TO = 120
"""Minutes from which on a difference of clocks is named in hours."""

MAX_CLOCK_SECONDS = 300.0
"""Seconds by which this machine's clock may differ from Kafka's."""


def prepare(configuration: Configuration) -> None:
    """Set up logging and the event loop, and check the topics; raises Failed if they are missing or wrong."""
    set_up(configuration.settings.broker)
    with suppress(ImportError):
        import uvloop

        # Faust gets its loop from the policy when it is imported.
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    check_topics(configuration)
    check_clock(configuration.settings.broker)


def check_clock(broker: Broker) -> None:
    """Compare this machine's clock with Kafka's, and use Kafka's time if they differ much.

    Otherwise a wrong clock would make events expire, and Kafka would refuse records with future timestamps. If a broker
    does not report its time, like the embedded one, the clocks are assumed to agree.
    """
    if not broker.idempotent:
        return  # the embedded broker runs on this machine
    try:
        now, ahead = find_clock_difference(broker, TOPICS_TIMEOUT)
    except BrokerError as error:
        log.info("cannot compare this machine's clock with Kafka's", error=str(error), needs=NEEDS)
        return
    if abs(ahead) > MAX_CLOCK_SECONDS:
        log.error(describe_difference(ahead), uses="Kafka's time", remedy="set the clock, and start this process again")
        clock.follow(now)


def describe_difference(ahead: float) -> str:
    """Say by how much this machine's clock is ahead of Kafka's, in one line; `ahead` is in seconds."""
    minutes = abs(ahead) / 60
    number = f"{minutes / 60:.0f} h" if minutes >= MINUTES_UP_TO else f"{minutes:.0f} min"
    return f"this machine's clock is {number} {'ahead of' if ahead > 0 else 'behind'} Kafka's"


def check_topics(configuration: Configuration) -> None:
    """Raise Failed if Kafka is not reachable, or if a topic is missing or wrong; optional topics may be missing.

    An embedded broker is known to run, and gets more time to respond on a busy machine.
    """
    broker, declared = configuration.settings.broker, configuration.declared
    embedded = configuration.settings.embedded
    try:
        check_reachable(broker, EMBEDDED_TIMEOUT if embedded else REACH_SECONDS)
        found = find_mismatches(broker, declared, EMBEDDED_TIMEOUT if embedded else TOPICS_TIMEOUT)
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
    """Run a worker until it is stopped; returns the exit code.

    `read` reads the changed folder. `begin` creates the worker's pipelines, and returns the function that applies a
    changed configuration.
    """
    from streams.kafka.producer import Producer
    from streams.kafka.topic_watch import TopicWatch
    from streams.operations.description import describe_worker
    from streams.operations.reporter import Reporter
    from streams.worker.lag import LagMeter
    from streams.worker.pipeline import StartError
    from streams.worker.worker import Worker

    settings, topics = configuration.settings, configuration.topics

    async def work(facts: Mapping[str, Any]) -> int:
        producer = Producer(
            settings.broker,
            client_id=f"{topics.prefix}.{process}",
            on_failure=lambda error: worker.fail(f"Kafka did not accept a batch: {type(error).__name__}"),
        )
        worker = Worker(producer)
        meter = LagMeter(settings.broker, lambda: worker.pipelines)
        reloader = Reloader(configuration, read, begin(worker))
        watch = TopicWatch(settings.broker, lambda: [topic.name for topic in reloader.current.declared], worker.fail)
        worker.background.append(watch.run)
        reporter = Reporter(
            process,
            settings.broker,
            topics.status,
            lambda: reloader.current.version,
            lambda: describe_worker(worker, meter),
        )
        background: list[asyncio.Task[None]] = []

        try:
            async with reporter.running() as report:

                def ready() -> None:
                    background.append(asyncio.create_task(meter.run()))
                    report()
                    readiness.started(lambda: meter.obstacle() or _find_obstacle(worker))
                    log_ready(process, version=configuration.version, **facts)

                async with reloader.running():
                    code = await worker.run(ready)
                reporter.is_clean = code == 0
            log_stopped(process, code)
            if worker.is_stuck:
                # asyncio would wait for the app's tasks, which ignore their cancellation.
                os._exit(code)
            return code
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)

    readiness = Readiness()
    try:
        with serve_metrics(process, settings, readiness) as facts:
            return asyncio.run(work(facts))
    except (BrokerError, StartError) as error:
        raise Failed(str(error)) from error


def _find_obstacle(worker: "Worker") -> str | None:
    """Return why a worker is not ready; None while any of its pipelines runs."""
    if any(pipeline.name not in worker.failures for pipeline in worker.pipelines):
        return None
    return "; ".join(f"{name} is failing: {why}" for name, why in worker.failures.items()) or "nothing runs"
