"""The sink agents: each integration's own Faust app, any number of them in a process."""

import time
from collections.abc import Callable
from typing import Any, cast

from faust.types import TP

from forwarders.contract import Forwarder, ObjectForwarder
from streams.broker import Broker
from streams.delivery.agent import Deliverer
from streams.delivery.storer import Storer
from streams.produce import Producer
from streams.settings import DeliverySettings
from streams.topics import Topics
from streams.transport import Consumer
from streams.worker import Station, make_station

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
) -> Station:
    """One integration's delivery as a station of a worker; with `shadow` it sends nothing."""

    def give_up(error: Exception) -> None:
        station.give_up(error, "delivering")

    deliverer: Deliverer | Storer
    if isinstance(forwarder, ObjectForwarder) and not shadow:
        deliverer = Storer(integration, forwarder, settings, topics, producer, fail=give_up, clock=clock)
    else:
        deliverer = Deliverer(
            integration, forwarder, settings, topics, producer, fail=give_up, clock=clock, shadow=shadow
        )
    topic = topics.forward(integration)
    station = make_station(
        integration,
        topic,
        deliverer.work,
        broker,
        fail=fail,
        group=f"{topics.prefix}.forwarder.{integration}",
        commit_interval=0.2,
        grace=grace,
        beside=[topics.retry(integration)],
        budget=settings.fetched_bytes,
    )

    def consumer() -> Consumer:
        return cast("Consumer", station.app.consumer)

    deliverer.share = lambda: sum(tp.topic == topic for tp in consumer().assignment()) / topics.partitions
    station.waits = deliverer.waits
    station.started = [deliverer.start]
    station.stopped = [deliverer.stop]
    station.transport.settle = deliverer.settle
    station.transport.on_revoked = deliverer.resume
    if isinstance(deliverer, Storer):
        station.transport.commits = deliverer.objects
    else:
        deliverer.full = lambda: station.progress.held >= station.progress.budget
        deliverer.rest = lambda tp, seconds: consumer().rest(TP(*tp), seconds)
    return station
