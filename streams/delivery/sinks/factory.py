"""Create the delivery of an integration as a Faust app of its own."""

import time
from collections.abc import Callable
from typing import Any, cast

from faust.types import TP

from forwarders.api.contract import Forwarder, ObjectForwarder
from streams.delivery.flow.settings import DeliverySettings
from streams.delivery.sinks.delivery_sink import DeliverySink
from streams.delivery.sinks.object_sink import ObjectSink
from streams.kafka.producer import Producer
from streams.kafka.settings import Broker
from streams.kafka.transport import Consumer
from streams.topics import Topics
from streams.worker.worker import ConsumerPipeline, make_pipeline

__all__ = ["make_delivery"]


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
    shadow: bool = False,
    clock: Callable[[], float] = time.time,
) -> ConsumerPipeline:
    """One integration's delivery as a pipeline of a worker; with `shadow` it sends nothing."""

    def give_up(error: Exception) -> None:
        pipeline.give_up(error, "delivering")

    sink: DeliverySink | ObjectSink
    if isinstance(forwarder, ObjectForwarder) and not shadow:
        sink = ObjectSink(integration, forwarder, settings, topics, producer, fail=give_up, clock=clock)
    else:
        sink = DeliverySink(
            integration, forwarder, settings, topics, producer, fail=give_up, clock=clock, shadow=shadow
        )
    topic = topics.forward(integration)
    pipeline = make_pipeline(
        integration,
        topic,
        sink.work,
        broker,
        fail=fail,
        group=f"{topics.prefix}.forwarder.{integration}",
        commit_interval=0.2,
        grace=grace,
        beside=[topics.retry(integration)],
        budget=settings.fetched_bytes,
    )

    def consumer() -> Consumer:
        return cast("Consumer", pipeline.app.consumer)

    sink.share = lambda: sum(tp.topic == topic for tp in consumer().assignment()) / topics.partitions
    pipeline.waits = sink.waits
    pipeline.vendor = sink.vendor
    pipeline.started = [sink.start]
    pipeline.stopped = [sink.stop]
    pipeline.transport.settle = sink.settle
    pipeline.transport.on_revoked = sink.resume
    if isinstance(sink, ObjectSink):
        pipeline.transport.commits = sink.objects
    else:
        sink.full = lambda: pipeline.progress.held >= pipeline.progress.budget
        sink.rest = lambda tp, seconds: consumer().rest(TP(*tp), seconds)
    return pipeline
