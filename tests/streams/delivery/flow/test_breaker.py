import asyncio

import pytest
from structlog.testing import capture_logs

from forwarders.api.contract import AuthFailed, Retired, Retry
from streams.delivery.flow.breaker import RETIRED, Breaker
from streams.observability.metrics import DELIVERY_HELD, DELIVERY_PAUSED
from streams.records.control import Control, ControlAction
from streams.records.status import DeliveryState, VendorStatus

pytestmark = pytest.mark.anyio


@pytest.fixture
async def breaker():
    breaker = Breaker("one", 3, 0.02, 0.1)
    yield breaker
    breaker.close()


def paused() -> float:
    return DELIVERY_PAUSED.labels("one")._value.get()


async def test_failures_in_a_row_open_it(breaker: Breaker):
    """The breaker opens after a number of consecutive failures, and sets the metric."""
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
    """Waiting tasks are released even if uvloop's timers fire early by a step of its clock."""
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


ORDER = Control(ControlAction.PAUSED, "ann@app-1", "2026-11-28T10:00:00Z")


async def test_nothing_is_admitted_while_somebody_holds_it(breaker: Breaker):
    """Closed or open, also when its pause ends and after a success, until the order is lifted; waiters are woken."""
    breaker.hold(ORDER)
    assert not breaker.allows()
    assert not breaker.ready
    assert breaker.status == VendorStatus(DeliveryState.PAUSED, ORDER.when, "by ann@app-1")
    breaker.fail("auth", at_once=True)
    breaker.probe()
    assert not breaker.allows()
    assert DELIVERY_HELD.labels("one")._value.get() == 1
    waiting = asyncio.create_task(breaker.changed())
    await asyncio.sleep(0)
    breaker.hold(None)
    async with asyncio.timeout(1):
        await waiting
    assert breaker.allows()
    assert not breaker.allows(), "it is open, and one probes"
    assert DELIVERY_HELD.labels("one")._value.get() == 0


async def test_a_probe_that_is_given_back_waits_for_the_one_who_holds_it(breaker: Breaker):
    """A probe that was admitted and not sent is not lost."""
    breaker.fail("auth", at_once=True)
    await probe(breaker)
    breaker.hold(ORDER)
    breaker.give_back()
    assert not breaker.allows()
    breaker.hold(None)
    assert breaker.allows()


async def test_somebody_asks_for_a_probe():
    """It may go out at once; while one is on its way, or nothing is wrong, nothing changes."""
    asked: list[bool] = []
    breaker = Breaker("one", 3, 300, 300, on_probe=lambda: asked.append(True))
    breaker.probe()
    assert not asked
    breaker.fail("auth", at_once=True)
    assert not breaker.allows()
    breaker.probe()
    assert breaker.allows()
    breaker.probe()
    assert not breaker.allows()
    assert asked == [True]
    breaker.close()


async def test_status_says_why_delivery_is_paused():
    """The state is that of the last probe, with the vendor's last answer; a success ends it."""
    breaker = Breaker("one", 1, 300, 300)
    assert breaker.status == VendorStatus(DeliveryState.DELIVERING)
    breaker.note_answer(401, "no")
    breaker.record_results([AuthFailed()])
    first = breaker.status
    assert (first.state, first.reason) == (DeliveryState.REFUSED, "the vendor rejects the credentials")
    assert (first.status, first.answer) == (401, "no")
    assert first.answered
    assert first.since
    assert first.probe
    assert first.probe > first.since
    breaker.probe()
    assert breaker.allows()
    breaker.note_answer(503, "busy")
    breaker.record_results([Retry()])
    second = breaker.status
    assert (second.state, second.status, second.since) == (DeliveryState.FAILING, 503, first.since)
    breaker.probe()
    assert breaker.allows()
    breaker.succeed()
    assert breaker.status.state is DeliveryState.DELIVERING
    assert breaker.status.probe is None


async def test_a_retired_version_pauses_at_once():
    """The first response of its kind is enough, also of a suspect, and the reason says what to do."""
    breaker = Breaker("one", 3, 300, 300)
    breaker.record_results([Retired(), Retired()], comparable=True, suspect=True)
    assert breaker.is_open
    assert (breaker.status.state, breaker.status.reason) == (DeliveryState.REFUSED, RETIRED)
    breaker.close()


async def test_the_line_about_a_pause(breaker: Breaker):
    """It has the vendor's status, the beginning of its masked answer, and the time of the next probe."""
    breaker.note_answer(503, "no " * 200)
    with capture_logs() as lines:
        for _ in range(3):
            breaker.fail("the vendor fails")
    (line,) = lines
    assert (line["event"], line["integration"], line["reason"]) == ("delivery is paused", "one", "the vendor fails")
    assert (line["status"], line["answer"]) == (503, ("no " * 200)[:200])
    assert line["next_probe"] == breaker.status.probe
