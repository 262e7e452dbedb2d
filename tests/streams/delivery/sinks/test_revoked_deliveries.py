"""Deliveries of a revoked partition are not sent any more: they belong to another worker."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from forwarders.api.contract import Throttled
from streams.records.delivery import Retried
from tests.support.offline_delivery import START, OfflineBench, OpenVendor, virtually


class ByUser(OpenVendor):
    """A vendor that throttles users."""

    def parse_response(self, response, items):
        return (
            [Throttled(30.0, "user")] * len(items)
            if response.status == 429
            else super().parse_response(response, items)
        )


def payloads(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [{"n": n, "u": n % 2} for n in range(first, first + count)]


async def revoke(bench: OfflineBench, patience: float = 1) -> None:
    """Revoke all partitions, like the transport."""
    await bench.sink.settle(patience)
    bench.revoke()
    bench.sink.resume()


async def linger(bench: OfflineBench) -> None:
    """A batch lingers."""
    await bench.forward(payloads(5))
    await revoke(bench)


async def begin_while_settling(bench: OfflineBench) -> None:
    """A run comes to the agent while the partitions are settled."""
    await bench.sink.settle(1)
    await bench.forward(payloads(5))
    bench.revoke()
    bench.sink.resume()


async def begin_while_settling_retries(bench: OfflineBench) -> None:
    """The same with deliveries that are not due yet."""
    await bench.sink.settle(1)
    retried = Retried(1, START + 40, START, "failing").headers()
    await bench.forward(payloads(5), retried=retried)
    bench.revoke()
    bench.sink.resume()


async def wait_until_due(bench: OfflineBench) -> None:
    """Deliveries of the retry topic are not due yet."""
    await bench.forward(payloads(5), retried=Retried(1, START + 40, START, "failing").headers())
    await revoke(bench)


async def back_off(bench: OfflineBench) -> None:
    """Deliveries have failed and wait to be sent again."""
    bench.behave = lambda *_: 500
    await bench.forward(payloads(5))
    await bench.until(lambda: len(bench.requests) >= 1, 60)
    await revoke(bench)


async def hang(bench: OfflineBench) -> None:
    """A request outlasts the settling, and fails later."""
    bench.behave, bench.latency = (lambda *_: 500), 15
    await bench.forward(payloads(5))
    await asyncio.sleep(10)
    await revoke(bench)


async def hang_and_be_divided(bench: OfflineBench) -> None:
    """The same, and then the batch would be halved."""
    bench.behave, bench.latency = (lambda *_: 413), 15
    await bench.forward(payloads(5))
    await asyncio.sleep(10)
    await revoke(bench)


async def hang_and_be_throttled(bench: OfflineBench) -> None:
    """The same, and then the user would have to wait."""
    bench.behave, bench.latency = (lambda *_: 429), 15
    await bench.forward(payloads(5))
    await asyncio.sleep(10)
    await revoke(bench)


async def pause(bench: OfflineBench) -> None:
    """Delivery is paused, and all wait for a probe."""
    bench.behave = lambda *_: 401
    await bench.forward(payloads(40))
    await bench.until(lambda: bench.sink._breaker.is_open, 60)
    await revoke(bench)


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize(
    "situation",
    [
        linger, begin_while_settling, begin_while_settling_retries, wait_until_due, back_off, hang, hang_and_be_divided,
        hang_and_be_throttled, pause,
    ],
    ids=lambda each: each.__name__,
)  # fmt: skip
def test_nothing_is_sent_after_the_revocation(situation: Callable[[OfflineBench], Any], ordered: bool):
    """No request begins after a revocation; records of new partitions are delivered once and in order."""

    async def run() -> None:
        bench = OfflineBench(lambda *_: 200, items=5, kind=ByUser, linger=5, ordered=ordered, retry_delay=60)
        await bench.start()
        await situation(bench)
        begun = bench.begun
        await asyncio.sleep(200)
        assert bench.begun == begun
        bench.behave, bench.latency = (lambda *_: 200), 0.01
        await bench.forward(payloads(20, first=100))
        await bench.until(lambda: {n for n in bench.got if n >= 100} == set(range(100, 120)), 120)
        assert len([n for n in bench.got if n >= 100]) == 20
        if ordered:
            for user in (0, 1):
                assert [n for n in bench.got if n >= 100 and n % 2 == user] == list(range(100 + user, 120, 2))
        await bench.stop()

    virtually(run())
