"""Reports of processes, and commands to them, on a real Kafka."""

import asyncio
import time
from dataclasses import replace

import pytest
from kafka import KafkaProducer

from streams.kafka.settings import Broker
from streams.operations.follower import ControlFollower
from streams.operations.reading import OperationsReader, send_order
from streams.operations.reporter import Reporter
from streams.parsing.times import rfc3339
from streams.records.control import Control, ControlAction
from streams.records.status import DeliveryState, PipelineStatus, ProcessStatus, VendorStatus
from streams.topics import STATUS_SECONDS, Topics
from tests.support.reading import read, until

pytestmark = pytest.mark.anyio


def order(action: ControlAction, who: str = "ann") -> Control:
    return Control(action, who, rfc3339(time.time()))


class Vendor:
    """Keeps the orders that it gets."""

    def __init__(self) -> None:
        self.orders: list[Control | None] = []
        self.probes = 0
        self.status = VendorStatus(DeliveryState.DELIVERING)

    def hold(self, order: Control | None) -> None:
        self.orders.append(order)

    def probe(self) -> None:
        self.probes += 1


class Pipeline:
    """As much of a pipeline as obeys."""

    def __init__(self, name: str) -> None:
        self.name, self.vendor = name, Vendor()


def write(broker: Broker, topic: str, *records: tuple[bytes | None, bytes | None]) -> None:
    producer = KafkaProducer(**broker.client())
    for key, value in records:
        producer.send(topic, key=key, value=value, partition=0).get(30)
    producer.close()


@pytest.mark.parametrize("clean", [True, False])
async def test_a_change_is_reported_at_once_and_a_clean_end_removes_the_report(
    broker: Broker, topics: Topics, *, clean: bool
):
    """A process that fails leaves its last report."""
    rules, pipelines = ["v1"], [PipelineStatus("one")]
    reporter = Reporter("forwarder", broker, topics.status, lambda: rules[0], lambda: pipelines)
    reporter.is_clean = clean
    with OperationsReader(broker, topics) as reader:

        def reported() -> ProcessStatus | None:
            reader.catch_up()
            return reader.reports.get(reporter.id)

        async with reporter.running() as begin:
            begin()
            async with asyncio.timeout(60):
                while (await asyncio.to_thread(reported)) is None:
                    await asyncio.sleep(0.05)
            rules[0], changed_at = "v2", time.time()
            async with asyncio.timeout(60):
                while not (found := await asyncio.to_thread(reported)) or found.rules != "v2":
                    await asyncio.sleep(0.05)
            first, second = [ProcessStatus.decode(it.value) for it in await read(broker, topics.status, 1)][-2:]
            assert (first.rules, second.rules) == ("v1", "v2")
            assert second.reported >= rfc3339(changed_at)
            assert second.pipelines == pipelines
        assert ((await asyncio.to_thread(reported)) is None) is clean


async def test_old_and_unreadable_reports_are_ignored(broker: Broker, topics: Topics):
    """A report is valid for ten minutes; one in a newer format does not cause a failure."""
    now = time.time()
    report = ProcessStatus("router", "h", 1, "1", "v", "t", rfc3339(now), [])
    old = replace(report, reported=rfc3339(now - STATUS_SECONDS - 5))
    write(
        broker,
        topics.status,
        (b"old", old.encode()),
        (b"newer", b'{"v": 2}'),
        (b"broken", b"\xff"),
        (b"good", report.encode()),
    )
    with OperationsReader(broker, topics) as reader:
        reader.catch_up()
        assert list(reader.reports) == ["good"]


async def test_commands_of_before_the_start_count_as_the_last_one_says(broker: Broker, topics: Topics):
    """Paused and resumed or removed is nothing; paused stays, also if it was probed since; an old probe is over."""
    for name, actions in {
        "resumed": (ControlAction.PAUSED, ControlAction.RESUMED),
        "paused": (ControlAction.RESUMED, ControlAction.PAUSED),
        "probed": (ControlAction.PAUSED, ControlAction.PROBE),
        "removed": (ControlAction.PAUSED,),
    }.items():
        for action in actions:
            await asyncio.to_thread(send_order, broker, topics, name, order(action))
    write(broker, topics.control, (b"paused", b"\xff"), (b"paused", b'{"v": 2}'), (b"removed", None), (b"\xff", b"{}"))
    follower = ControlFollower(broker, topics.control, "test")
    task = asyncio.create_task(follower.run())
    pipelines = {name: Pipeline(name) for name in ("resumed", "paused", "probed", "removed", "other")}
    for pipeline in pipelines.values():
        await follower.prepare(pipeline.name, pipeline.vendor)
    held = {name: [it and it.action for it in pipeline.vendor.orders] for name, pipeline in pipelines.items()}
    assert held == {
        "resumed": [],
        "paused": [ControlAction.PAUSED],
        "probed": [ControlAction.PAUSED],
        "removed": [],
        "other": [],
    }
    assert not any(pipeline.vendor.probes for pipeline in pipelines.values())

    await asyncio.to_thread(send_order, broker, topics, "other", order(ControlAction.PROBE))
    await until(lambda: pipelines["other"].vendor.probes == 1)
    await asyncio.to_thread(send_order, broker, topics, "paused", order(ControlAction.RESUMED))
    await until(lambda: pipelines["paused"].vendor.orders[-1] is None)

    again = Pipeline("probed")
    await follower.prepare(again.name, again.vendor)
    await asyncio.to_thread(send_order, broker, topics, "probed", order(ControlAction.RESUMED))
    await until(lambda: again.vendor.orders[-1:] == [None])
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
