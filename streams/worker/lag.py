"""Compute a worker's lag, for the metric and for the watchdog."""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from faust.types import TP

from streams.kafka.offsets import Commits
from streams.kafka.settings import Broker
from streams.kafka.transport import Consumer
from streams.observability.metrics import LAG

PERIOD_SECONDS = 10.0
"""Seconds between two updates of the metric."""


def offsets_done(reading: Consumer, commits: Commits, parts: Collection[TP]) -> Mapping[TP, int]:
    """Return the offset of each partition before which all records are finished.

    Before the first record is finished, it is the offset at which the worker's consumer, `reading`, began.
    """
    return {part: commits.committable(part) or reading.begun_at(part) or 0 for part in parts}


async def find_lag(asked: AIOKafkaConsumer, done: Mapping[TP, int]) -> Mapping[TP, int]:
    """Return how many records each partition has from the `done` offset on.

    Records that Kafka has removed do not count. `asked` is a separate consumer: a worker's consumer does not detect new
    records while it fetches nothing. Raises KafkaError if Kafka does not respond.
    """
    if not done:
        return {}
    parts = [TopicPartition(*part) for part in done]
    ends, begins = await asked.end_offsets(parts), await asked.beginning_offsets(parts)
    # The embedded broker tells the end by the last batch, which may be finished.
    return {part: max(0, ends[part] - max(begins[part], offset)) for part, offset in done.items()}


class Measured(Protocol):
    """A pipeline of a worker."""

    @property
    def done(self) -> Mapping[TP, int]:
        """Return the offset of each of its partitions before which all records are finished."""


async def keep_lag(
    broker: Broker,
    pipelines: Callable[[], Sequence[Measured]],
    period: float = PERIOD_SECONDS,
    latest: dict[TP, int] | None = None,
) -> None:
    """Update the lag metric of the pipelines' topics until cancelled; it does not change while Kafka is down.

    `latest` receives the lag of each of their partitions.
    """
    known: set[str] = set()
    while True:
        consumer = AIOKafkaConsumer(**broker.consumer(), group_id=None)
        try:
            with suppress(KafkaError):
                await consumer.start()
                while True:
                    parts = await find_lag(consumer, _done(pipelines()))
                    if latest is not None:
                        latest.clear()
                        latest.update(parts)
                    lags = _by_topic(parts)
                    known |= lags.keys()
                    for topic in known:
                        LAG.labels(topic).set(lags[topic])
                    await asyncio.sleep(period)
        finally:
            await consumer.stop()
        await asyncio.sleep(period)


async def find_lags(consumer: AIOKafkaConsumer, pipelines: Sequence[Measured]) -> Counter[str]:
    """Return the lag of the pipelines by topic; raises KafkaError."""
    return _by_topic(await find_lag(consumer, _done(pipelines)))


def _done(pipelines: Sequence[Measured]) -> Mapping[TP, int]:
    return {part: offset for pipeline in pipelines for part, offset in pipeline.done.items()}


def _by_topic(parts: Mapping[TP, int]) -> Counter[str]:
    lags: Counter[str] = Counter()
    for part, lag in parts.items():
        lags[part.topic] += lag
    return lags
