import asyncio
import time

import pytest
from aiohttp import web
from prometheus_client import REGISTRY

from streams.kafka.producer import Producer
from streams.worker.lag import LagMeter
from streams.worker.worker import Worker
from tests.support.delivering import Bench, Vendor, VendorSettings
from tests.support.receiver import Got, receiving

pytestmark = pytest.mark.anyio


def seconds_of_lag(labels: dict[str, str]) -> float:
    found = REGISTRY.get_sample_value("turnout_lag_seconds", labels)
    assert found is not None
    return found


async def test_lag_is_what_kafka_has_beyond_what_is_finished(bench: Bench):
    """It counts what waits for the vendor and, after a new start, nothing that was finished before."""
    topic = bench.topics.forward("one")
    worker = Worker(Producer(bench.broker, client_id="worker"))
    meter = LagMeter(worker.producer.broker, lambda: worker.pipelines, period=0.02)
    keeper = asyncio.create_task(meter.run())

    async def lag_becomes(count: int) -> None:
        async with asyncio.timeout(120):
            while REGISTRY.get_sample_value("turnout_lag_records", {"topic": topic}) != count:
                await asyncio.sleep(0.01)

    await bench.forward(*({"n": n} for n in range(5)))
    go = asyncio.Event()

    async def hang(_got: Got) -> web.Response:
        await go.wait()
        return web.json_response({})

    async with receiving() as vendor:
        vendor.answer = hang
        forwarder = Vendor(VendorSettings(url=vendor.url))
        async with bench.running(forwarder) as pipeline:
            worker.pipelines = [pipeline]
            await lag_becomes(5)
            lag = meter.lag_of("one")
            assert lag is not None
            assert lag.records == 5
            assert lag.oldest is not None
            assert lag.expires is not None
            assert 0 <= time.time() - lag.oldest < 120
            assert lag.expires - lag.oldest == 7 * 24 * 3600
            labels = {"group": pipeline.group, "topic": topic}
            ages = [seconds_of_lag({**labels, "partition": str(number)}) for number in range(3)]
            assert max(ages) == pytest.approx(time.time() - lag.oldest, abs=60)
            assert REGISTRY.get_sample_value("turnout_retention_hours_left", labels) == pytest.approx(168, abs=0.1)
            go.set()
            await lag_becomes(0)
            assert [seconds_of_lag({**labels, "partition": str(number)}) for number in range(3)] == [0, 0, 0]
            lag = meter.lag_of("one")
            assert lag is not None
            assert (lag.records, lag.oldest, lag.expires) == (0, None, None)
            async with asyncio.timeout(60):
                while (lag := meter.lag_of("one")) is None or lag.finished is None:
                    await asyncio.sleep(0.05)
            assert lag.finished > 0
        async with bench.running(forwarder) as pipeline:
            worker.pipelines = [pipeline]
            await lag_becomes(0)
            await bench.forward({"n": 5})
            await bench.settled(6)
            await lag_becomes(0)
    keeper.cancel()
    assert await asyncio.gather(keeper, return_exceptions=True)
