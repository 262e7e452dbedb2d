import asyncio
import re
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
from aiohttp import web
from prometheus_client import REGISTRY

from forwarders.api.contract import (
    Category,
    Contract,
    Delivered,
    Delivery,
    Limits,
    OffsetRange,
    Request,
    Result,
    Retry,
    WriterForwarder,
)
from streams.records.outcomes import Outcomes
from tests.support.delivering import Bench, Vendor, VendorSettings, numbers
from tests.support.panics import panic
from tests.support.reading import committed, read
from tests.support.receiver import Got, receiving

pytestmark = pytest.mark.anyio


class Flaky(WriterForwarder[VendorSettings]):
    """A writer that fails its first write."""

    contract = Contract(
        "flaky", "Flaky", "https://example.com", Category.STORAGE, VendorSettings, limits=Limits(items=100)
    )

    def __init__(self, settings: VendorSettings) -> None:
        super().__init__(settings)
        self.written: list[tuple[OffsetRange, list[int]]] = []
        self.calls = 0

    async def write(self, items: Sequence[Delivery], offsets: OffsetRange) -> Sequence[Result]:
        self.calls += 1
        if self.calls == 1:
            raise OSError("disk full")
        if self.calls == 2:
            return [Retry()] * len(items)
        self.written.append((offsets, [item.payload["n"] for item in items]))
        return [Delivered()] * len(items)


async def test_batches_hold_one_group_and_no_more_than_the_vendors_limit(bench: Bench):
    """Two users never share a request, batches close at the limit or after the linger, and all is committed."""
    await bench.forward(*({"n": n, "user": f"u{n % 2}"} for n in range(50)))
    async with receiving() as vendor, bench.running(Vendor(VendorSettings(url=vendor.url))):
        assert await bench.settled(50) == dict.fromkeys(range(50), "delivered")
    assert sorted(len(some) for some in numbers(vendor.got)) == [5, 5, 10, 10, 10, 10]
    for some in numbers(vendor.got):
        assert len({n % 2 for n in some}) == 1
    assert (await committed(bench.broker, bench.group, bench.topics.forward("one")))[0] == 50


async def test_one_bad_item_is_one_dead_letter_and_never_spoils_a_batch(bench: Bench):
    """A payload that the model refuses is dead before it joins a batch, with the field but without its value."""
    await bench.forward({"n": 0}, {"n": 1, "note": "a secret much longer than ten"}, {"n": 2})
    async with receiving() as vendor, bench.running(Vendor(VendorSettings(url=vendor.url))):
        assert await bench.settled(3) == {0: "delivered", 1: "dead", 2: "delivered"}
    (letter,) = await bench.dead()
    assert (letter.reason, letter.delivery["payload"]["n"], letter.request) == ("payload", 1, None)
    assert letter.detail == ": Value error, the note is longer than 10 characters (1 in all)"
    assert "secret" not in letter.detail
    assert numbers(vendor.got) == [[0, 2]]


async def test_an_invalid_optional_value_is_left_out_and_noted(bench: Bench):
    """The delivery is sent without it; the note and the metric name it without its value, once also after a retry."""
    await bench.forward({"n": 0, "user": "u"}, {"n": 1, "colour": "a secret much longer than ten", "user": "u"})
    answers = [web.Response(status=503)]
    count = partial(REGISTRY.get_sample_value, "turnout_delivery_left_out_values_total", {"integration": "one"})
    before = count() or 0
    async with receiving() as vendor, bench.running(Vendor(VendorSettings(url=vendor.url)), retry_in_place=0):
        vendor.answer = lambda _: answers.pop() if answers else web.json_response({})
        assert await bench.settled(2) == {0: "delivered", 1: "delivered"}
    assert [each for got in vendor.got for each in got.body if each["n"] == 1] == [{"n": 1, "user": "u"}] * 2
    assert (count() or 0) - before == 1
    (named,) = [
        named
        for record in await read(bench.broker, bench.topics.outcomes)
        for named in Outcomes.decode(record.value).named
    ]
    assert named == ("", "", "noted", 1, "left_out", "one: colour: String should have at most 10 characters")


async def test_a_permanent_failure_is_a_dead_letter_with_all_that_is_needed(bench: Bench):
    """Items that the vendor lists are dead, with request and answer, secrets masked; the others are delivered."""
    await bench.forward(*({"n": n} for n in range(5)))
    async with receiving() as vendor:
        vendor.answer = lambda _: web.Response(status=207, text="1,3")
        async with bench.running(Vendor(VendorSettings(url=vendor.url))):
            outcomes = await bench.settled(5)
    assert outcomes == {0: "delivered", 1: "dead", 2: "delivered", 3: "dead", 4: "delivered"}
    letters = await bench.dead()
    assert [letter.delivery["payload"]["n"] for letter in letters] == [1, 3]
    assert letters[0].attempts == 1
    assert letters[0].answer == {"status": 207, "body": "1,3"}
    assert letters[0].request == {
        "method": "POST",
        "url": f"{vendor.url}?token=***",
        "headers": {"Authorization": "***"},
    }


async def test_a_vendor_that_fails_for_a_while_gets_everything_later(bench: Bench):
    """5xx, 429 and a hang over the time-out are retried in place until all is delivered."""
    await bench.forward(*({"n": n} for n in range(30)))

    async def fail(got: Got) -> web.StreamResponse:
        kind = len(vendor.got) % 3
        if len(vendor.got) > 15:
            return web.json_response({})
        if kind == 0:
            await asyncio.sleep(5)
        return web.Response(status=(500, 429, 503)[kind])

    async with receiving() as vendor:
        vendor.answer = fail
        async with bench.running(Vendor(VendorSettings(url=vendor.url)), timeout=0.3):
            assert await bench.settled(30) == dict.fromkeys(range(30), "delivered")
    assert not await bench.dead()


@pytest.mark.parametrize("status", [400, 404, 422, 501, 307])
async def test_what_no_retry_mends_is_dead_at_once(bench: Bench, status: int):
    """Client errors are not retried, and a redirect is not followed."""
    await bench.forward({"n": 0})
    async with receiving() as vendor:
        vendor.answer = lambda _: web.Response(status=status, headers={"Location": f"{vendor.url}/elsewhere"})
        async with bench.running(Vendor(VendorSettings(url=vendor.url))):
            await bench.settled(1)
    assert len(vendor.got) == 1
    assert (await bench.dead())[0].reason == f"status_{status}"


async def test_retry_after_is_waited_for_and_capped(bench: Bench):
    """A Retry-After beyond the highest back-off is capped to it."""
    await bench.forward({"n": 0})
    async with receiving() as vendor:
        vendor.answer = lambda _: web.Response(
            status=429 if len(vendor.got) == 1 else 200, headers={"Retry-After": "86400"}
        )
        start = asyncio.get_running_loop().time()
        async with bench.running(Vendor(VendorSettings(url=vendor.url)), backoff_max=0.6):
            await bench.settled(1)
            assert asyncio.get_running_loop().time() - start >= 0.6
    assert len(vendor.got) == 2


async def test_a_batch_refused_as_too_large_is_halved_until_it_passes(bench: Bench):
    """413 splits; an item refused on its own is dead, every other is delivered."""
    await bench.forward(*({"n": n} for n in range(10)))
    async with receiving() as vendor:
        vendor.answer = lambda got: web.Response(status=413 if 7 in [item["n"] for item in got.body] else 200)
        async with bench.running(Vendor(VendorSettings(url=vendor.url))):
            outcomes = await bench.settled(10)
    assert outcomes == {**dict.fromkeys(range(10), "delivered"), 7: "dead"}
    assert len(vendor.got) <= 9


async def test_an_ordered_integration_keeps_each_users_order_through_failures(bench: Bench):
    """A lane waits while its head retries; other users' lanes continue."""
    await bench.forward(*({"n": n, "user": f"u{n % 7}"} for n in range(140)))
    refused: set[int] = set()

    def answer(got: Got) -> web.StreamResponse:
        first = got.body[0]["n"]
        if first % 3 == 0 and first not in refused:
            refused.add(first)
            return web.Response(status=500)
        delivered.extend((item["user"], item["n"]) for item in got.body)
        return web.json_response({})

    delivered: list[tuple[str, int]] = []
    async with receiving() as vendor:
        vendor.answer = answer
        async with bench.running(Vendor(VendorSettings(url=vendor.url)), ordered=True, items=3):
            await bench.settled(140)
    assert refused
    for user in {user for user, _ in delivered}:
        sequence = [n for name, n in delivered if name == user]
        assert sequence == sorted(sequence)


async def test_no_more_requests_than_the_concurrency_are_open(bench: Bench):
    """Concurrency bounds the requests on their way, and is used."""
    await bench.forward(*({"n": n} for n in range(40)))

    four = asyncio.Event()

    async def slow(_: Got) -> web.StreamResponse:
        if vendor.open >= 4:
            four.set()
        await asyncio.wait_for(four.wait(), 120)
        await asyncio.sleep(0.05)
        return web.json_response({})

    async with receiving() as vendor:
        vendor.answer = slow
        async with bench.running(Vendor(VendorSettings(url=vendor.url)), items=1, concurrency=4):
            await bench.settled(40)
    assert vendor.most_open == 4


async def test_a_stop_while_the_vendor_hangs_keeps_its_grace_and_loses_nothing(bench: Bench):
    """A stopped worker ends in time; deliveries in flight or waiting are redelivered, confirmed ones are not."""
    await bench.forward(*({"n": n} for n in range(20)))

    async def hang(got: Got) -> web.StreamResponse:
        if got.body[0]["n"] >= 10:
            await asyncio.sleep(300)
        return web.json_response({})

    async with receiving() as vendor:
        vendor.answer = hang
        async with bench.running(Vendor(VendorSettings(url=vendor.url)), items=5, concurrency=2, grace=4):
            await bench.settled(10)
            start = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - start < 60
    assert (await committed(bench.broker, bench.group, bench.topics.forward("one")))[0] == 10
    async with receiving() as vendor, bench.running(Vendor(VendorSettings(url=vendor.url))):
        await bench.settled(20)
    assert sorted(n for some in numbers(vendor.got) for n in some) == list(range(10, 20))


async def test_a_writer_gets_coordinates_and_is_asked_again_when_it_fails(bench: Bench):
    """A writer that raises or returns a retry is called again with the same offsets."""
    await bench.forward(*({"n": n} for n in range(10)))
    writer = Flaky(VendorSettings(url=""))
    async with bench.running(writer):
        await bench.settled(10)
    assert writer.written == [(OffsetRange(bench.topics.forward("one"), 0, 0, 9), list(range(10)))]


async def test_a_header_with_a_line_break_is_a_dead_letter(bench: Bench):
    """A request that cannot be sent is dead, and no second header goes out."""

    class Broken(Vendor):
        def build_request(self, items: Sequence[Delivery]) -> Request:
            return Request("POST", self.settings.url, {"X-A": "1\r\nX-B: 2"}, [len(items)])

    await bench.forward({"n": 0})
    async with receiving() as vendor, bench.running(Broken(VendorSettings(url=vendor.url))):
        assert await bench.settled(1) == {0: "dead"}
    assert not vendor.got


async def test_a_forwarder_that_raises_costs_the_delivery_that_it_raised_for(bench: Bench):
    """An exception in request() is narrowed down to one item, whose neighbours are delivered."""

    class Picky(Vendor):
        def build_request(self, items: Sequence[Delivery]) -> Request:
            if any(item.payload["n"] == 3 for item in items):
                raise KeyError("personal data")
            return super().build_request(items)

    await bench.forward(*({"n": n} for n in range(6)))
    async with receiving() as vendor, bench.running(Picky(VendorSettings(url=vendor.url))):
        assert await bench.settled(6) == {**dict.fromkeys(range(6), "delivered"), 3: "dead"}
    (letter,) = await bench.dead()
    assert letter.reason == "internal"
    assert re.fullmatch(r"KeyError at sinks/test_delivery_sink\.py:\d+", letter.detail)


@pytest.mark.parametrize("method", ["build_request", "parse_response", "group_key", "validate"])
async def test_a_forwarder_that_panics_costs_the_delivery_that_it_panicked_for(bench: Bench, method: str):
    """Whichever part of it calls a library written in Rust; a response that cannot be parsed counts by its status."""
    real = getattr(Vendor, method)

    def fail_for_one(self: Vendor, *args: Any) -> Any:
        found = args[-1] if method in ("build_request", "parse_response") else args
        payloads = [item.payload if isinstance(item, Delivery) else item for item in found]
        return panic() if any(payload["n"] == 3 for payload in payloads) else real(self, *args)

    picky = type("Picky", (Vendor,), {method: fail_for_one})
    await bench.forward(*({"n": n} for n in range(6)))
    async with receiving() as vendor, bench.running(picky(VendorSettings(url=vendor.url))):
        expected = "delivered" if method == "parse_response" else "dead"
        assert await bench.settled(6) == {**dict.fromkeys(range(6), "delivered"), 3: expected}
    assert {letter.reason for letter in await bench.dead()} == ({"internal"} if expected == "dead" else set())


async def test_a_writer_that_panics_costs_the_delivery_that_it_panicked_for(bench: Bench):
    """It does not count as a failure of a disk or network, which would be retried."""

    class Panicking(Flaky):
        async def write(self, items: Sequence[Delivery], offsets: OffsetRange) -> Sequence[Result]:  # noqa: ARG002
            return panic() if any(item.payload["n"] == 3 for item in items) else [Delivered()] * len(items)

    await bench.forward(*({"n": n} for n in range(6)))
    async with bench.running(Panicking(VendorSettings(url="http://127.0.0.1"))):
        assert await bench.settled(6) == {**dict.fromkeys(range(6), "delivered"), 3: "dead"}
    assert [letter.reason for letter in await bench.dead()] == ["internal"]


async def test_an_answer_without_end_is_cut(bench: Bench):
    """A huge answer is read to a bound and judged by its status."""
    await bench.forward({"n": 0})
    async with receiving() as vendor:

        async def endless(_: Got) -> web.StreamResponse:
            return web.Response(body=b"x" * 30_000_000)

        vendor.answer = endless
        async with bench.running(Vendor(VendorSettings(url=vendor.url))):
            assert await bench.settled(1) == {0: "delivered"}


async def test_in_shadow_nothing_is_sent_and_all_is_recorded(bench: Bench):
    """Every delivery is filtered, invalid ones with a reason; nothing is sent and no dead letter is written."""
    await bench.forward({"n": 0}, {"n": 1, "note": "longer than ten"}, {"n": 2})
    async with receiving() as vendor, bench.running(Vendor(VendorSettings(url=vendor.url)), shadow=True):
        assert await bench.settled(3) == dict.fromkeys(range(3), "filtered")
    assert not vendor.got
    assert not await bench.dead()
    (named,) = [
        named
        for record in await read(bench.broker, bench.topics.outcomes)
        for named in Outcomes.decode(record.value).named
    ]
    assert (named.offset, named.reason) == (1, "shadow")
    assert named.detail.startswith("payload: : Value error, the note is longer")


async def test_requests_retries_and_ends_are_counted(bench: Bench):
    """Metrics by integration: outcomes of deliveries, request durations by result, and retries."""

    def counts() -> dict[str, float]:
        one = {"integration": "one"}
        labels = {
            "turnout_delivery_outcomes_total": {**one, "outcome": "delivered"},
            "turnout_delivery_retries_total": one,
            "turnout_delivery_request_seconds_count": {**one, "status": "5xx"},
        }
        return {name: REGISTRY.get_sample_value(name, given) or 0 for name, given in labels.items()}

    before = counts()
    answers = [web.Response(status=503), web.json_response({})]
    await bench.forward(*({"n": n} for n in range(3)))
    async with receiving() as vendor, bench.running(Vendor(VendorSettings(url=vendor.url))):
        vendor.answer = lambda _: answers.pop(0)
        await bench.settled(3)
    assert [after - before[name] for name, after in counts().items()] == [3, 3, 1]
