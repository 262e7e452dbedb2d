"""Compute a worker's lag, for metrics, reports and the watchdog."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import NamedTuple, Protocol

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from faust.types import TP

from streams.clock import time
from streams.kafka.admin import find_retention
from streams.kafka.offsets import Commits
from streams.kafka.settings import Broker, BrokerError
from streams.kafka.transport import Consumer
from streams.observability.internal_error import to_exception
from streams.observability.logging import error_fields
from streams.observability.metrics import LAG, LAG_SECONDS, RETENTION_LEFT

log = structlog.get_logger()

PERIOD_SECONDS = 10.0
"""Seconds between two measurements."""

RATE_SECONDS = 300.0
"""The time over which rates are measured, in seconds."""

MIN_RATE_SECONDS = 5.0
"""Seconds of measurements that a rate needs."""

UNREACHABLE_SECONDS = 20.0
"""Seconds without an answer of Kafka, beyond the period, after which a worker is not ready."""

OLDEST_SECONDS = 5.0
"""Seconds that Kafka has to return the oldest unfinished records."""

RETENTION_SECONDS = 600.0
"""Seconds after which the retention of topics is read again."""


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
    """A pipeline of a worker, or another reader of topics."""

    @property
    def name(self) -> str:
        """Return `router`, `ledger` or the integration."""

    @property
    def group(self) -> str:
        """Return its consumer group."""

    @property
    def done(self) -> Mapping[TP, int]:
        """Return the offset of each of its partitions before which all records are finished."""


@dataclass(frozen=True, slots=True)
class Lag:
    """The unfinished records of some partitions.

    Args:
        records: How many they are.
        oldest: When the oldest was written to Kafka, in seconds since 1970; None without any, or if unknown.
        expires: When Kafka's retention removes the first of them, in seconds since 1970; None as above, or if the topic
            keeps records forever.
        finished: Records finished per second in the last minutes; None until that is known.
        arrived: Records that arrived per second meanwhile.

    """

    records: int
    oldest: float | None = None
    expires: float | None = None
    finished: float | None = None
    arrived: float | None = None


class LagMeter:
    """Measures the lag of pipelines, for the metrics, the reports and `turnout status`.

    Args:
        broker: How to reach Kafka.
        pipelines: Returns the pipelines that run now.
        period: Seconds between two measurements.

    """

    def __init__(
        self, broker: Broker, pipelines: Callable[[], Sequence[Measured]], period: float = PERIOD_SECONDS
    ) -> None:
        self._broker, self._pipelines, self._period = broker, pipelines, period
        self.parts: Mapping[TP, int] = {}
        """The lag of each partition in records."""
        self._times: dict[TP, tuple[int, float]] = {}
        self._history: dict[str, deque[_Sample]] = {}
        self._retention: Mapping[str, float | None] = {}
        self._retention_at = float("-inf")
        self._retention_of: Collection[str] = ()
        self._lags: dict[str, Lag] = {}
        self._shown: set[tuple[str, str, str]] = set()
        self._topics: set[str] = set()
        self._measured_at = monotonic()

    def obstacle(self) -> str | None:
        """Return a reason if Kafka has not answered for UNREACHABLE_SECONDS."""
        silent = monotonic() - self._measured_at
        return f"Kafka has not answered for {silent:.0f} s" if silent > UNREACHABLE_SECONDS + self._period else None

    def lag_of(self, name: str) -> Lag | None:
        """Return the lag of a pipeline; None if it is not measured yet."""
        return self._lags.get(name)

    async def run(self) -> None:
        """Measure until cancelled; the values stay the same while Kafka does not respond."""
        while True:
            consumer = AIOKafkaConsumer(**self._broker.consumer(), group_id=None, max_partition_fetch_bytes=1)
            try:
                await consumer.start()
                while True:
                    await self._measure(consumer)
                    await asyncio.sleep(self._period)
            except KafkaError:
                pass  # the process says that Kafka is away
            except BaseException as error:  # noqa: BLE001  # the next measurement may succeed
                log.warning("cannot measure the lag; trying again", **error_fields(to_exception(error)))
            finally:
                await consumer.stop()
            await asyncio.sleep(self._period)

    async def _measure(self, consumer: AIOKafkaConsumer) -> None:
        pipelines = [_Snapshot(each.name, each.group, dict(each.done)) for each in self._pipelines()]
        done = {part: offset for pipeline in pipelines for part, offset in pipeline.done.items()}
        lags = await find_lag(consumer, done)
        await self._find_oldest(consumer, {part: done[part] for part, lag in lags.items() if lag})
        await self._find_retention({part.topic for part in done})
        self.parts = lags
        now = time()
        self._lags = {pipeline.name: self._sum(pipeline, lags) for pipeline in pipelines}
        self._history = {name: its for name, its in self._history.items() if name in self._lags}
        self._export(pipelines, lags, now)
        self._measured_at = monotonic()

    async def _find_oldest(self, consumer: AIOKafkaConsumer, begins: Mapping[TP, int]) -> None:
        """Find the time of the first record at or after each of these offsets."""
        self._times = {part: known for part, known in self._times.items() if known[0] == begins.get(part)}
        left = {TopicPartition(*part) for part in begins if part not in self._times}
        if not left:
            return
        consumer.assign(list(left))
        for part in left:
            consumer.seek(part, begins[TP(*part)])
        deadline = monotonic() + OLDEST_SECONDS
        while left and monotonic() < deadline:
            for part, records in (await consumer.getmany(*left, timeout_ms=500, max_records=len(left))).items():
                if records and part in left:
                    left.discard(part)
                    consumer.pause(part)
                    self._times[TP(*part)] = begins[TP(*part)], records[0].timestamp / 1000
        consumer.unsubscribe()

    async def _find_retention(self, topics: Collection[str]) -> None:
        if monotonic() - self._retention_at < RETENTION_SECONDS and topics == self._retention_of:
            return
        self._retention_at, self._retention_of = monotonic(), topics
        with suppress(BrokerError):
            self._retention = await asyncio.to_thread(find_retention, self._broker, topics)

    def _sum(self, pipeline: Measured, lags: Mapping[TP, int]) -> Lag:
        """Return the lag of a pipeline over its partitions, with the rates since its oldest sample."""
        done = pipeline.done
        parts = [part for part in done if part in lags]
        times = [(part, self._times[part][1]) for part in parts if lags[part] and part in self._times]
        expiries = [at + kept for part, at in times if (kept := self._retention.get(part.topic)) is not None]
        records = sum(lags[part] for part in parts)
        finished, arrived = self._rates(pipeline.name, parts, {part: done[part] for part in parts}, records)
        oldest, expires = min((at for _, at in times), default=None), min(expiries, default=None)
        return Lag(records, oldest, expires, finished, arrived)

    def _rates(
        self, name: str, parts: Sequence[TP], done: Mapping[TP, int], records: int
    ) -> tuple[float | None, float | None]:
        samples = self._history.setdefault(name, deque())
        if samples and samples[-1].parts != frozenset(parts):
            samples.clear()
        total, now = sum(done.values()), monotonic()
        samples.append(_Sample(now, frozenset(parts), total, total + records))
        while samples[-1].at - samples[0].at > RATE_SECONDS:
            samples.popleft()
        first = samples[0]
        if (seconds := now - first.at) < MIN_RATE_SECONDS:
            return None, None
        return (total - first.finished) / seconds, (total + records - first.arrived) / seconds

    def _export(self, pipelines: Sequence[Measured], lags: Mapping[TP, int], now: float) -> None:
        shown: set[tuple[str, str, str]] = set()
        hours: dict[tuple[str, str], float] = {}
        for pipeline in pipelines:
            for part in pipeline.done:
                if part not in lags:
                    continue
                labels = (pipeline.group, part.topic, str(part.partition))
                known = self._times.get(part) if lags[part] else (0, now)
                if known is None:
                    continue
                shown.add(labels)
                age = max(0.0, now - known[1])
                LAG_SECONDS.labels(*labels).set(age)
                if (kept := self._retention.get(part.topic)) is not None:
                    left = max(0.0, kept - age) / 3600
                    hours[labels[:2]] = min(left, hours.get(labels[:2], left))
        for labels in self._shown - shown:
            LAG_SECONDS.remove(*labels)
        for group, topic in {labels[:2] for labels in self._shown} - hours.keys():
            with suppress(KeyError):
                RETENTION_LEFT.remove(group, topic)
        for key, left in hours.items():
            RETENTION_LEFT.labels(*key).set(left)
        self._shown = shown
        by_topic = _by_topic(lags)
        self._topics |= by_topic.keys()
        for topic in self._topics:
            LAG.labels(topic).set(by_topic[topic])


class _Snapshot(NamedTuple):
    """A pipeline at one time."""

    name: str
    group: str
    done: Mapping[TP, int]


class _Sample(NamedTuple):
    """The finished and the arrived records of a pipeline at one time, counted by offsets."""

    at: float
    parts: frozenset[TP]
    finished: int
    arrived: int


def _by_topic(parts: Mapping[TP, int]) -> Counter[str]:
    lags: Counter[str] = Counter()
    for part, lag in parts.items():
        lags[part.topic] += lag
    return lags
