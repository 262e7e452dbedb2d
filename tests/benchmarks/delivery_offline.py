"""Measure delivery's CPU time without Kafka: the real DeliverySink, an instant producer, a local vendor over HTTP.

    python -m tests.benchmarks.delivery_offline [DELIVERIES]

In batches of 100, then one per request (a fifth of them). Prints the CPU microseconds of this process per delivery. To
compare two versions, run it in turns with each version's folder as PYTHONPATH.
"""

import asyncio
import resource
import sys
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import orjson

from forwarders.vendors.webhook.forwarder import Webhook, WebhookSettings
from streams.delivery.flow.settings import DeliverySettings
from streams.delivery.sinks.delivery_sink import DeliverySink
from streams.events import key
from streams.kafka.offsets import OffsetTracker
from streams.records.delivery import DeliveryRecord
from streams.records.event import Origin
from streams.topics import Topics
from tests.benchmarks import measure
from tests.benchmarks.events import make_events

TOPICS = Topics(prefix="bench", partitions=3)
TP = (TOPICS.forward("one"), 0)
RUN = 500


class Producer:
    """Confirms each record at once."""

    def append(self, *_: Any, **__: Any) -> None:
        return

    async def wait_for_room(self) -> None:
        return


def records(count: int) -> Sequence[Any]:
    made = []
    for number, event in enumerate(map(orjson.loads, make_events(0, count))):
        value = DeliveryRecord(
            event["messageId"], "r", "v1", "track", event["event"], event["timestamp"], event["receivedAt"], "web",
            Origin(TOPICS.events, 0, number), event["properties"],
        ).encode()  # fmt: skip
        made.append(SimpleNamespace(offset=number, key=key(event), value=value, headers=[], timestamp=0))
    return made


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def deliver(items: int, port: str, made: Sequence[Any]) -> float:
    """Return the CPU microseconds per delivery."""
    forwarder = Webhook(WebhookSettings(url=f"http://127.0.0.1:{port}/", batch_size=items))
    failed: list[str] = []
    sink = DeliverySink(
        "one", forwarder, DeliverySettings(), TOPICS, Producer(), fail=failed.append, clock=time.time  # type: ignore[arg-type]
    )  # fmt: skip
    await sink.start()
    progress = OffsetTracker()
    used = cpu()
    for first in range(0, len(made), RUN):
        await progress.wait_for_room(60)
        run = progress.open(TP, made[first : first + RUN])
        run.begin()
        await sink.work(run)
    while progress.committable(TP) != len(made):
        await asyncio.sleep(0.01)
    used = cpu() - used
    await sink.stop()
    assert not failed
    return used / len(made) * 1e6


def main(count: int) -> None:
    import uvloop

    vendor = measure.start("tests.benchmarks.delivery", "--vendor", core=measure.cores()[1])
    assert vendor.stdout
    port = vendor.stdout.readline().strip()
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    made = records(count)
    for name, items, some in (("batches", 100, made), ("singles", 1, made[: count // 5])):
        print(f"{name}: {asyncio.run(deliver(items, port, some)):.2f} us per delivery", flush=True)
    vendor.kill()


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 50_000)
