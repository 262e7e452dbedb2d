"""Settlements: a delivery is finished when Kafka has everything about it, and not before."""

import asyncio
import math
from collections.abc import Callable

import pytest

from streams.delivery.parcels import Parcel
from streams.delivery.settlement import Settlements, Unreadable
from streams.guard import Guard
from streams.internal_error import INTERNAL
from streams.progress import Progress, Run
from streams.topics import DeadLetter, DeliveryRecord, Origin, Outcome, Retried, Topics
from tests.streams.local import LocalProducer, LocalRecord

pytestmark = pytest.mark.anyio

TOPICS = Topics(prefix="t", partitions=3)
DELIVERY = DeliveryRecord("m", "r", "v", "track", "E", "t", "t", "web", Origin(TOPICS.events, 0, 0), {})


class Bench:
    """Settlements of one delivery, confirmed or refused by a producer without a broker."""

    def __init__(self) -> None:
        self.producer = LocalProducer()
        self.guard = Guard("one", lambda _: None)
        self.settlements = Settlements("one", TOPICS, self.producer, self.guard, moment=0.0)
        self.record = LocalRecord(TOPICS.forward("one"), 0, 0, 0, b"u", DELIVERY.encode(), ())
        self.run: Run = Progress().open((TOPICS.forward("one"), 0), [self.record])
        self.parcel = Parcel(DELIVERY, b"u", 2, self.run, 0, math.inf)

    def letter(self, reason: str = "bad") -> DeadLetter:
        return DeadLetter("one", DELIVERY.data(), reason, "", 1, "t")


SETTLE: dict[str, Callable[[Bench], None]] = {
    "delivered": lambda bench: bench.settlements.settle(bench.parcel, Outcome.DELIVERED),
    "dead": lambda bench: bench.settlements.bury(bench.parcel, bench.letter()),
    "retry": lambda bench: bench.settlements.hand_on(bench.parcel, Retried(1, 0.0, 0.0, "failing")),
    "rejected": lambda bench: bench.settlements.reject(Unreadable(bench.run, 0, bench.record), "x", ""),
    "internal": lambda bench: bench.settlements.bury_failed(bench.parcel, bench.letter(INTERNAL), ValueError()),
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
    await bench.settlements.wait_until_idle()
    assert not bench.run.finished


async def test_an_internal_failure_of_a_revoked_partition_is_not_written():
    """Whoever has the partition now handles the record again."""
    bench = Bench()
    SETTLE["internal"](bench)
    bench.run.dropped = True
    bench.guard.passed()
    await bench.settlements.wait_until_idle()
    assert not bench.producer.records
