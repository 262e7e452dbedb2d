import asyncio

import pytest
from aiohttp import web
from prometheus_client import REGISTRY

from streams.kafka.producer import Producer
from streams.worker.lag import keep_lag
from streams.worker.worker import Worker
from tests.support.delivering import Bench, Vendor, VendorSettings
from tests.support.receiver import Got, receiving

pytestmark = pytest.mark.anyio


async def test_lag_is_what_kafka_has_beyond_what_is_finished(bench: Bench):
    """It counts what waits for the vendor and, after a new start, nothing that was finished before."""
    topic = bench.topics.forward("one")
    worker = Worker(Producer(bench.broker, client_id="worker"))
    keeper = asyncio.create_task(keep_lag(worker.producer.broker, lambda: worker.pipelines, period=0.02))

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
            go.set()
            await lag_becomes(0)
        async with bench.running(forwarder) as pipeline:
            worker.pipelines = [pipeline]
            await lag_becomes(0)
            await bench.forward({"n": 5})
            await bench.settled(6)
            await lag_becomes(0)
    keeper.cancel()
    assert await asyncio.gather(keeper, return_exceptions=True)
