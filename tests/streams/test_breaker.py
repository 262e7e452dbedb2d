import asyncio

import pytest

from streams.delivery.breaker import Breaker
from streams.metrics import DELIVERY_PAUSED

pytestmark = pytest.mark.anyio


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def breaker(clock: Clock):
    breaker = Breaker("one", 3, 1.0, 5.0, clock)
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
    assert breaker.admits()
    for _ in range(3):
        breaker.fail("fails")
    assert not breaker.admits()
    assert paused() == 1


async def test_refused_credentials_open_it_at_once(breaker: Breaker):
    """One answer about credentials is enough."""
    breaker.fail("auth", at_once=True)
    assert not breaker.admits()


async def test_one_probe_at_a_time_after_pauses_that_double(breaker: Breaker, clock: Clock):
    """While it is open one request may go out after 1, 2, 4, 5, 5 … seconds, and one success closes it."""
    breaker.fail("auth", at_once=True)
    for pause in (1, 2, 4, 5, 5):
        clock.now += pause - 0.01
        assert not breaker.admits()
        clock.now += 0.01
        assert breaker.admits()
        assert not breaker.admits()
        breaker.fail("fails")
    clock.now += 5
    assert breaker.admits()
    breaker.succeed()
    assert breaker.admits()
    assert breaker.admits()
    assert paused() == 0


async def test_what_was_on_its_way_before_does_not_close_it(breaker: Breaker):
    """A success of a request that went out before it opened says nothing about now."""
    breaker.fail("auth", at_once=True)
    breaker.succeed()
    assert not breaker.admits()


async def test_who_waits_hears_of_the_end(breaker: Breaker, clock: Clock):
    """Those that wait for a change are woken when a probe closes it."""
    breaker.fail("auth", at_once=True)
    clock.now += 1
    assert breaker.admits()
    waiting = [asyncio.create_task(breaker.changed()) for _ in range(3)]
    await asyncio.sleep(0)
    breaker.succeed()
    async with asyncio.timeout(1):
        await asyncio.gather(*waiting)
