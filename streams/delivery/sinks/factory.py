"""Create the delivery of an integration as a Faust app of its own."""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from datetime import time as time_of_day
from typing import Any

from forwarders.api.contract import Forwarder, ObjectForwarder
from streams.clock import time
from streams.delivery.flow.settings import DeliverySettings
from streams.delivery.outcomes.lost_deliveries import LostDeliveriesRecorder
from streams.delivery.sinks.delivery_sink import DeliverySink
from streams.delivery.sinks.object_sink import ObjectSink
from streams.kafka.gaps import OnGap
from streams.kafka.offsets import MemoryBudget
from streams.kafka.producer import Producer
from streams.kafka.settings import Broker
from streams.observability.metrics import API_SUNSET
from streams.operations.follower import ControlFollower
from streams.topics import Topics
from streams.worker.pipeline import ConsumerPipeline, PipelineControl, Processor, make_pipeline

__all__ = ["make_delivery"]

PARTITION_FETCH_BYTES = 128 * 1024
"""Bytes that are fetched ahead per partition. All partitions of 25 integrations together bound memory."""


def make_delivery(
    integration: str,
    forwarder: Forwarder[Any],
    settings: DeliverySettings,
    topics: Topics,
    broker: Broker,
    producer: Producer,
    *,
    fail: Callable[[str], None],
    grace: float,
    remake: Callable[[], ConsumerPipeline] | None = None,
    follower: ControlFollower | None = None,
    memory: MemoryBudget | None = None,
    shadow: bool = False,
    on_gap: OnGap = "continue",
    clock: Callable[[], float] = time,
) -> ConsumerPipeline:
    """Create one integration's delivery as a pipeline of a worker; with `shadow` it sends nothing.

    `fail` and `remake` are those of `ConsumerPipeline`. If a `follower` is given, its commands apply from the start on.
    `memory` is the budget of the process, `on_gap` is that of `make_pipeline`.
    """
    topic = topics.forward(integration)
    losses = LostDeliveriesRecorder(integration, topics, broker, producer)
    _report_sunset(integration, forwarder)

    def make_processor(control: PipelineControl) -> Processor:
        def give_up(error: Exception) -> None:
            control.give_up(error, "delivering")

        def share() -> float:
            return control.count_assigned(topic) / topics.partitions

        async def start() -> None:
            if follower is not None:
                await follower.prepare(integration, sink.vendor)
            await sink.start()

        sink: ObjectSink | DeliverySink
        if isinstance(forwarder, ObjectForwarder) and not shadow:
            sink = objects = ObjectSink(
                integration, forwarder, settings, topics, producer, fail=give_up, clock=clock, share=share
            )
            return Processor(
                objects.work, start, objects.stop, objects.waits, objects.settle, objects.resume,
                commits=objects.objects, vendor=objects.vendor, record_gap=losses.record,
            )  # fmt: skip
        sink = DeliverySink(
            integration,
            forwarder,
            settings,
            topics,
            producer,
            fail=give_up,
            clock=clock,
            shadow=shadow,
            share=share,
            is_full=control.is_full,
            give_back=control.give_back,
        )
        return Processor(
            sink.work, start, sink.stop, sink.waits, sink.settle, sink.resume, vendor=sink.vendor,
            record_gap=losses.record,
        )  # fmt: skip

    return make_pipeline(
        integration,
        [topic, topics.retry(integration)],
        make_processor,
        broker,
        fail=fail,
        remake=remake,
        group=topics.forwarder_group(integration),
        commit_interval=0.2,
        grace=grace,
        budget=settings.fetched_bytes,
        memory=memory,
        partition_fetch_bytes=PARTITION_FETCH_BYTES,
        on_gap=on_gap,
    )


def _report_sunset(integration: str, forwarder: Forwarder[Any]) -> None:
    """Show in the metrics when the vendor turns off the version of its API that the integration uses."""
    version = forwarder.contract.version_in_use(dict(forwarder.settings))
    if version and version.sunset:
        API_SUNSET.labels(integration).set(datetime.combine(version.sunset, time_of_day(), UTC).timestamp())
    else:
        with suppress(KeyError):
            API_SUNSET.remove(integration)
