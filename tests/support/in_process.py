"""Run a router and delivery in this process without a broker: records in, outcomes out."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from forwarders.api.contract import Delivered, Forwarder, ObjectForwarder, WriterForwarder
from streams.delivery.flow.settings import DeliverySettings
from streams.delivery.objects.upload import ObjectUpload
from streams.delivery.sinks.delivery_sink import DeliverySink
from streams.delivery.sinks.object_sink import ObjectSink
from streams.kafka.offsets import OffsetTracker, RecordBatch
from streams.kafka.settings import Broker
from streams.records.outcomes import FORWARDED, Outcomes
from streams.records.rejected import Rejected
from streams.routing.dedupe import Windows
from streams.routing.router import Router
from streams.routing.ruleset import CurrentRules, RuleSet
from streams.suppression.filter import SuppressedUsers
from streams.suppression.follower import SuppressionFollower
from streams.topics import Topics
from streams.worker.guard import Guard
from tests.support.local_producer import LocalProducer, LocalRecord

TOPICS = Topics(prefix="t", partitions=1)


class Nobody(SuppressionFollower):
    """An empty list of suppressed users."""

    async def catch_up(self) -> None:
        """Do nothing."""


class Pipeline:
    """A router with these rules, and the delivery of these forwarders by their integrations' names.

    `failed` are the errors for which a worker would have ended.
    """

    def __init__(
        self,
        rules: RuleSet,
        forwarders: Mapping[str, Forwarder[Any]],
        folder: Path,
        *,
        producer: LocalProducer | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.producer = producer or LocalProducer()
        self.names = list(forwarders)
        self.failed: list[Exception] = []
        self.windows = Windows(Broker(), 100_000, "t", TOPICS)
        self.router = Router(
            CurrentRules(rules),
            TOPICS,
            self.producer,
            self.windows,
            Nobody(Broker(), TOPICS.suppressed, SuppressedUsers(), "t"),
            Guard("router", self.failed.append),
            clock,
        )
        self.deliveries: dict[str, DeliverySink | ObjectSink] = {}
        options = DeliverySettings(linger=0, spool=folder, concurrency=2)
        for name, forwarder in forwarders.items():
            kind = ObjectSink if isinstance(forwarder, ObjectForwarder) else DeliverySink
            if isinstance(forwarder, WriterForwarder):
                write_nowhere(forwarder)
            self.deliveries[name] = kind(
                name,
                forwarder,
                options,
                TOPICS,
                self.producer,
                fail=self.failed.append,
                clock=clock,  # type: ignore[arg-type]
            )

    async def start(self) -> None:
        for delivery in self.deliveries.values():
            await delivery.start()

    async def stop(self) -> None:
        for delivery in self.deliveries.values():
            await delivery.stop()

    async def take(self, records: Sequence[LocalRecord]) -> dict[int, dict[str, set[str]]]:
        """Route and deliver records; returns the outcomes by offset and integration, "" for rejected.

        The first records must start at offset 0, since no earlier ones can be read.
        """
        self.producer.records.clear()
        run = OffsetTracker().open((TOPICS.events, 0), records)
        await self.router.work(run)
        await self.finished(run)
        await asyncio.gather(*(self.deliver(name) for name in self.names))
        return fates(self.producer.records)

    async def deliver(self, name: str) -> None:
        forwarded = self.producer.records.get(TOPICS.forward(name), [])
        if not forwarded:
            return
        delivery, tp = self.deliveries[name], (TOPICS.forward(name), 0)
        run = OffsetTracker().open(tp, forwarded)
        await delivery.work(run)
        if isinstance(delivery, ObjectSink):
            (last,) = delivery.objects._unfinished[tp]
            await delivery._store(ObjectUpload(last))
            while not last.finished:
                await asyncio.sleep(0.001)
            delivery.objects.drop([tp])
        await self.finished(run)

    async def finished(self, run: RecordBatch) -> None:
        """Wait until a run is finished; fails the test if a worker would have ended."""
        async with asyncio.timeout(120):
            while not run.finished:
                assert not self.failed, self.failed
                await asyncio.sleep(0.001)


def fates(records: Mapping[str, Sequence[LocalRecord]]) -> dict[int, dict[str, set[str]]]:
    """Return the outcomes by offset and integration, without `forwarded`; "" for rejected."""
    found: dict[int, dict[str, set[str]]] = {}
    for record in records.get(TOPICS.rejected, []):
        rejected = Rejected.decode(record.key, record.value, record.headers)
        assert rejected.origin
        found.setdefault(rejected.origin.offset, {}).setdefault("", set()).add(rejected.reason)
    for record in records.get(TOPICS.outcomes, []):
        for span in Outcomes.decode(record.value).spans:
            for offset in range(span.first, span.last + 1):
                found.setdefault(offset, {}).setdefault(span.integration, set()).add(span.outcome)
    for by_integration in found.values():
        for outcomes in by_integration.values():
            outcomes.discard(FORWARDED)
    return found


def write_nowhere(forwarder: Forwarder[Any]) -> None:
    """Encode a writer's records without writing them."""

    async def nothing() -> None:
        pass

    async def write(items: Any, _: Any) -> list[Delivered]:
        forwarder.preview(items)  # type: ignore[attr-defined]
        return [Delivered()] * len(items)

    async def put(_content: bytes, _: Any) -> Delivered:
        return Delivered()

    forwarder.open = forwarder.close = nothing  # type: ignore[attr-defined]
    if isinstance(forwarder, ObjectForwarder):
        forwarder.put = put  # type: ignore[method-assign]
    else:
        forwarder.write = write  # type: ignore[attr-defined]
