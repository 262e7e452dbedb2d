import asyncio

import pytest

from streams.delivery.flow.breaker import Breaker
from streams.observability.metrics import DELIVERY_PAUSED

pytestmark = pytest.mark.anyio


@pytest.fixture
async def breaker():
    breaker = Breaker("one", 3, 0.02, 0.1)
    yield breaker
    breaker.close()


def paused() -> float:
    return DELIVERY_PAUSED.labels("one")._value.get()


async def test_failures_in_a_row_open_it(breaker: Breaker):
    """It opens after so many failures with no success between them, and says so in the metric."""
    for _ in range(3):
        breaker.fail("fails")
        breaker.fail("fails")
        breaker.succeed()
    assert breaker.allows()
    for _ in range(3):
        breaker.fail("fails")
    assert not breaker.allows()
    assert paused() == 1


async def test_refused_credentials_open_it_at_once(breaker: Breaker):
    """One answer about credentials is enough."""
    breaker.fail("auth", at_once=True)
    assert not breaker.allows()


async def probe(breaker: Breaker) -> float:
    """Wait until a probe may go out; returns for how many seconds."""
    start = asyncio.get_running_loop().time()
    async with asyncio.timeout(5):
        while not breaker.allows():
            await breaker.changed()
    return asyncio.get_running_loop().time() - start


async def test_one_probe_at_a_time_after_pauses_that_double(breaker: Breaker):
    """While it is open one request may go out after 1, 2, 4, 5, 5 … pauses, and one success closes it."""
    breaker.fail("auth", at_once=True)
    for pause in (1, 2, 4, 5, 5):
        assert not breaker.allows()
        # An event loop's clock may be a few milliseconds behind the one that measures.
        assert await probe(breaker) >= pause * 0.02 - 0.005
        assert not breaker.allows()
        breaker.fail("fails")
    await probe(breaker)
    breaker.succeed()
    assert breaker.allows()
    assert breaker.allows()
    assert paused() == 0


async def test_a_timer_that_fires_early_is_as_good(breaker: Breaker, monkeypatch: pytest.MonkeyPatch):
    """The timers of uvloop may be early by a step of its clock; those who wait are let go all the same."""
    early = asyncio.get_running_loop().call_later
    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", lambda seconds, *rest: early(seconds / 2, *rest))
    breaker.fail("auth", at_once=True)
    await probe(breaker)


async def test_what_was_on_its_way_before_does_not_close_it(breaker: Breaker):
    """A success of a request that went out before it opened says nothing about now."""
    breaker.fail("auth", at_once=True)
    breaker.succeed()
    assert not breaker.allows()


async def test_who_waits_hears_of_the_end(breaker: Breaker):
    """Those that wait for a change are woken when a probe closes it."""
    breaker.fail("auth", at_once=True)
    await probe(breaker)
    waiting = [asyncio.create_task(breaker.changed()) for _ in range(3)]
    await asyncio.sleep(0)
    breaker.succeed()
    async with asyncio.timeout(1):
        await asyncio.gather(*waiting)
