"""Outcomes: a delivery is finished when Kafka has everything about it, and not before."""

import asyncio
import math
import time
from collections.abc import Callable

import pytest
from prometheus_client import REGISTRY

from forwarders.api.contract import PermanentFailure, Settings
from streams.delivery.outcomes.dead_letters import DeadLetterFactory, InternalFailure
from streams.delivery.outcomes.masking import Mask
from streams.delivery.outcomes.pending import PendingDelivery
from streams.delivery.outcomes.writer import OutcomeWriter, Unreadable
from streams.kafka.offsets import OffsetTracker, RecordBatch
from streams.parsing.times import rfc3339
from streams.records.delivery import DeliveryRecord, Retried
from streams.records.event import Origin
from streams.records.outcomes import Outcome
from streams.topics import Topics
from streams.worker.guard import Guard
from tests.support.local_producer import LocalProducer, LocalRecord

pytestmark = pytest.mark.anyio

TOPICS = Topics(prefix="t", partitions=3)
DELIVERY = DeliveryRecord("m", "r", "v", "track", "E", "t", "t", "web", Origin(TOPICS.events, 0, 0), {})
LETTERS = DeadLetterFactory("one", Mask(Settings()), lambda: 0.0)


class Bench:
    """Outcomes of one delivery, confirmed or refused by a producer without a broker."""

    def __init__(self) -> None:
        self.producer = LocalProducer()
        self.guard = Guard("one", lambda _: None)
        self.writer = OutcomeWriter("one", TOPICS, self.producer, self.guard, LETTERS, moment=0.0)
        self.record = LocalRecord(TOPICS.forward("one"), 0, 0, 0, b"u", DELIVERY.encode(), ())
        self.run: RecordBatch = OffsetTracker().open((TOPICS.forward("one"), 0), [self.record])
        self.pending = PendingDelivery(DELIVERY, b"u", 2, self.run, 0, math.inf)


SETTLE: dict[str, Callable[[Bench], None]] = {
    "delivered": lambda bench: bench.writer.settle(bench.pending, Outcome.DELIVERED),
    "dead": lambda bench: bench.writer.dead_letter(bench.pending, PermanentFailure("bad")),
    "retry": lambda bench: bench.writer.requeue(bench.pending, Retried(1, 0.0, 0.0, "failing")),
    "rejected": lambda bench: bench.writer.reject(Unreadable(bench.run, 0, bench.record), "x", ""),
    "internal": lambda bench: bench.writer.dead_letter(bench.pending, InternalFailure.by(ValueError())),
}


@pytest.mark.parametrize("how", SETTLE)
async def test_a_confirmed_record_finishes_its_delivery(how: str):
    """When all records about it are confirmed, it may be committed."""
    bench = Bench()
    SETTLE[how](bench)
    async with asyncio.timeout(60):
        while not bench.run.finished:
            bench.guard.passed()
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("how", SETTLE)
async def test_a_refused_record_does_not_finish_its_delivery(how: str):
    """What Kafka did not take comes again: it is neither finished nor committed."""
    bench = Bench()
    bench.producer.error = RuntimeError("refused")
    SETTLE[how](bench)
    bench.guard.passed()
    await bench.writer.wait_until_idle()
    assert not bench.run.finished


async def test_an_internal_failure_of_a_revoked_partition_is_not_written():
    """Whoever has the partition now handles the record again."""
    bench = Bench()
    SETTLE["internal"](bench)
    bench.run.dropped = True
    bench.guard.passed()
    await bench.writer.wait_until_idle()
    assert not bench.producer.records


@pytest.mark.parametrize(
    ("outcome", "ago", "bucket"),
    [
        (Outcome.DELIVERED, 20.0, "30.0"),
        (Outcome.DELIVERED, -60.0, "0.1"),
        (Outcome.EXPIRED, 20.0, None),
        (Outcome.DELIVERED, None, None),
    ],
)
async def test_time_from_end_to_end(outcome: Outcome, ago: float | None, bucket: str | None):
    """It counts from the collector to the vendor, for delivered events; an unreadable time is not counted."""

    def counted(name: str, **labels: str) -> float:
        found = REGISTRY.get_sample_value(f"turnout_end_to_end_seconds_{name}", {"integration": "one", **labels})
        return found or 0.0

    bench = Bench()
    received = "yesterday" if ago is None else rfc3339(time.time() - ago)
    bench.pending.delivery = DELIVERY._replace(received=received)
    before = counted("count"), counted("bucket", le=bucket or "+Inf")
    bench.writer.settle(bench.pending, outcome, "" if outcome is Outcome.DELIVERED else "age")
    grown = 0 if bucket is None else 1
    assert (counted("count"), counted("bucket", le=bucket or "+Inf")) == (before[0] + grown, before[1] + grown)
