"""How far a worker is behind, as a metric."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import cast

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from faust.types import TP

from streams.metrics import LAG
from streams.transport import Consumer
from streams.worker import Station, Worker

PERIOD = 10.0
"""Seconds between two looks."""


async def keep_lag(worker: Worker, period: float = PERIOD) -> None:
    """Keep the metric of a worker's topics until cancelled; while Kafka does not answer it stays as it is.

    It asks by a consumer of its own: the stations' hear nothing new while they are full, and must not be held up.
    """
    known: set[str] = set()
    while True:
        consumer = AIOKafkaConsumer(**worker.producer.broker.consumer(), group_id=None)
        try:
            with suppress(KafkaError):
                await consumer.start()
                while True:
                    lags = await find_lags(consumer, worker.stations)
                    known |= lags.keys()
                    for topic in known:
                        LAG.labels(topic).set(lags[topic])
                    await asyncio.sleep(period)
        finally:
            await consumer.stop()
        await asyncio.sleep(period)


async def find_lags(consumer: AIOKafkaConsumer, stations: Sequence[Station]) -> Counter[str]:
    """By topic, how many records of the stations' partitions are not finished; raises KafkaError."""
    done: dict[TopicPartition, int | None] = {}
    for station in stations:
        reading = cast("Consumer", station.app.consumer)
        for tp in reading.assignment():
            done[TopicPartition(*tp)] = station.transport.commits.committable(TP(*tp)) or reading.begun_at(TP(*tp))
    ends, begins = await consumer.end_offsets(list(done)), await consumer.beginning_offsets(list(done))
    lags: Counter[str] = Counter()
    for part, offset in done.items():
        lags[part.topic] += ends[part] - max(begins[part], offset or 0)
    return lags
