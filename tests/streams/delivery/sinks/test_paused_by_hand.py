"""Deliveries of an integration that is paused or probed by hand."""

import asyncio
from pathlib import Path

import pytest
from aiohttp import web

from forwarders.api.contract import Retry
from streams.delivery.flow.worker_pool import WorkerPool
from streams.records.control import Control, ControlAction
from streams.records.status import DeliveryState
from tests.streams.delivery.sinks.test_object_sink import Store, StoreSettings
from tests.support.delivering import Bench, Vendor, VendorSettings, numbers
from tests.support.reading import until
from tests.support.receiver import Got, receiving

pytestmark = pytest.mark.anyio

ORDER = Control(ControlAction.PAUSED, "ann@app-1", "2026-11-28T10:00:00Z")


async def test_a_batch_that_waits_for_the_rate_is_not_sent(bench: Bench):
    """It goes back to its queue when its time comes, and is sent once delivery is resumed."""
    async with receiving() as vendor:
        settings = {"items": 1, "requests_per_second": 1, "concurrency": 4}
        async with bench.running(Vendor(VendorSettings(url=vendor.url)), **settings) as pipeline:
            pool = pipeline._processor.work.__self__._pool  # type: ignore[attr-defined]
            await bench.forward(*({"n": n, "user": f"u{n}"} for n in range(6)))
            await until(lambda: len(vendor.got) > 0 and pool.busy > 0 and not vendor.open)
            assert pipeline.vendor
            pipeline.vendor.hold(ORDER)
            sent = len(vendor.got)
            await until(lambda: pool.busy == 0)
            assert len(vendor.got) == sent < 6
            assert pipeline.waits(), "it is no stall"
            pipeline.vendor.hold(None)
            assert await bench.settled(6) == dict.fromkeys(range(6), "delivered")
        assert sorted(n for some in numbers(vendor.got) for n in some) == list(range(6))


@pytest.mark.parametrize("status", [200, 503])
async def test_an_ordered_integration_keeps_its_order(bench: Bench, status: int):
    """A request that is on its way when it is paused is finished, or sent again after it is resumed."""
    go = asyncio.Event()

    async def hang(_: Got) -> web.Response:
        await go.wait()
        vendor.answer = lambda _: web.json_response({})
        return web.Response(status=status)

    async with receiving() as vendor:
        vendor.answer = hang
        async with bench.running(Vendor(VendorSettings(url=vendor.url)), ordered=True, items=2) as pipeline:
            await bench.forward(*({"n": n} for n in range(9)))
            await until(lambda: len(vendor.got) == 1)
            assert pipeline.vendor
            pipeline.vendor.hold(ORDER)
            go.set()
            pool = pipeline._processor.work.__self__._pool  # type: ignore[attr-defined]
            await until(lambda: pool.busy == 0)
            assert len(vendor.got) == 1
            pipeline.vendor.hold(None)
            await bench.settled(9)
        delivered = [n for some in numbers(vendor.got)[int(status != 200) :] for n in some]
        assert delivered == list(range(9))


async def test_no_object_is_written(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Objects that are complete wait on disk, also one that waits for the rate."""
    store = Store(StoreSettings())
    sleep, begun, ended = WorkerPool.sleep, [0.0], [0.0]

    async def watched(self: WorkerPool[object], seconds: float) -> None:
        begun.append(seconds)
        await sleep(self, seconds)
        ended.append(seconds)

    monkeypatch.setattr(WorkerPool, "sleep", watched)
    async with bench.running(store, spool=tmp_path, requests_per_second=1, concurrency=1) as pipeline:
        await bench.forward(*({"n": n} for n in range(41)))
        await until(lambda: len(begun) > len(ended))
        assert pipeline.vendor
        pipeline.vendor.hold(ORDER)
        written = dict(store.objects)
        await until(lambda: len(begun) == len(ended))
        assert store.objects == written
        assert not store.writing
        assert pipeline.waits(), "it is no stall"
        pipeline.vendor.hold(None)
        await bench.settled(40)
    assert store.objects == {(0, at, at + 9): list(range(at, at + 10)) for at in range(0, 40, 10)}


async def test_an_object_is_tried_again_when_somebody_asks_for_a_probe(bench: Bench, tmp_path: Path):
    """It does not wait for its back-off, which is much longer than the test."""
    store = Store(StoreSettings())
    store.answers = [Retry()]
    patience = {"backoff_min": 1000, "backoff_max": 1000, "breaker_failures": 1, "concurrency": 1}
    async with bench.running(store, spool=tmp_path, **patience) as pipeline:
        await bench.forward(*({"n": n} for n in range(11)))
        assert pipeline.vendor
        await until(lambda: not store.answers and pipeline.vendor.status.state is DeliveryState.FAILING)
        assert not store.objects
        pipeline.vendor.probe()
        await bench.settled(10)
    assert store.objects == {(0, 0, 9): list(range(10))}
