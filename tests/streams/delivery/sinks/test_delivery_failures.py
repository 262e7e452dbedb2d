"""What becomes of deliveries that a vendor does not take at once."""

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from math import log2
from typing import Any
from unittest.mock import patch

import orjson
import pytest
from aiohttp import web
from prometheus_client import REGISTRY

from forwarders.api.contract import (
    Category,
    Contract,
    Delivery,
    Limits,
    PermanentFailure,
    Rate,
    Response,
    Result,
    Retired,
    Retry,
    Throttled,
    Version,
    split_or_fail,
)
from streams.delivery.flow.breaker import Breaker
from streams.kafka.acks import PendingAcks
from streams.kafka.producer import Producer
from streams.observability.metrics import API_SUNSET, DELIVERY_PAUSED
from streams.parsing.times import rfc3339
from streams.records.delivery import DeliveryRecord, Retried
from streams.records.event import Origin
from streams.records.format import MAX_RECORD_BYTES
from streams.records.rejected import Rejected
from streams.records.size import HEADROOM
from tests.support.delivering import Bench, Vendor, VendorPayload, VendorSettings, numbers
from tests.support.reading import committed, read, until
from tests.support.receiver import Got, Receiver, receiving

pytestmark = pytest.mark.anyio


class Whole(Vendor):
    """A vendor that refuses a batch for one bad item, and accepts events of the last hour with up to 200 bytes."""

    contract = Contract(
        "whole", "Whole", "https://example.com", Category.ANALYTICS, VendorSettings, VendorPayload,
        Limits(items=64, item_bytes=200), max_event_age=timedelta(hours=1),
    )  # fmt: skip

    def parse_response(self, answer, items):
        return split_or_fail(items, "bad") if answer.status == 400 else super().parse_response(answer, items)


def make(kind: type[Vendor], vendor: Receiver) -> Vendor:
    return kind(VendorSettings(url=vendor.url))


def ago(seconds: float) -> str:
    return rfc3339(time.time() - seconds)


async def test_an_event_older_than_the_vendors_window_expires(bench: Bench):
    """Its outcome is `expired`, nothing is sent and nothing is dead; a time without a meaning never expires."""
    await bench.forward({"n": 0}, time=ago(3700))
    await bench.forward({"n": 1}, time=ago(3500))
    await bench.forward({"n": 2}, time="long ago")
    async with receiving() as vendor, bench.running(make(Whole, vendor)):
        assert await bench.settled(3) == {0: "expired", 1: "delivered", 2: "delivered"}
    assert sorted(n for some in numbers(vendor.got) for n in some) == [1, 2]
    assert not await bench.dead()


async def test_max_age_narrows_the_vendors_window(bench: Bench):
    """An integration may have a shorter one."""
    await bench.forward({"n": 0}, time=ago(100))
    await bench.forward({"n": 1}, time=datetime.now(UTC).isoformat())
    async with receiving() as vendor, bench.running(make(Whole, vendor), max_age=60):
        assert await bench.settled(2) == {0: "expired", 1: "delivered"}


async def test_what_becomes_too_old_while_it_waits_expires(bench: Bench):
    """An event that the vendor failed to take in time is not sent any more."""
    await bench.forward({"n": 0}, time=ago(0))
    async with receiving() as vendor:
        vendor.answer = lambda _: web.Response(status=500)
        # Five failed probes may move it to the retry topic first.
        async with bench.running(make(Vendor, vendor), max_age=1.5, retry_delay=0.5):
            assert await bench.settled(1) == {0: "expired"}


async def test_the_size_of_an_item_is_that_of_its_payload(bench: Bench):
    """Only the payload's size counts, not the record's; a byte over the limit is dead without being sent."""
    fits = {"n": 0, "user": "u" * (200 - len('{"n":0,"user":""}'))}
    await bench.forward(fits, {**fits, "n": 1, "user": fits["user"] + "u"})
    async with receiving() as vendor, bench.running(make(Whole, vendor)):
        assert await bench.settled(2) == {0: "delivered", 1: "dead"}
    (letter,) = await bench.dead()
    assert (letter.reason, letter.detail) == ("too_large", "201 bytes exceed the vendor's limit of 200")
    assert len(vendor.got) == 1


async def test_a_poisoned_batch_costs_few_requests_and_one_dead_letter(bench: Bench):
    """The bad one is found alone with at most 2·log2 n + 1 requests, every other is delivered once, in order."""
    await bench.forward(*({"n": n} for n in range(64)))
    delivered: list[int] = []

    def answer(got: Got) -> web.StreamResponse:
        some = [item["n"] for item in got.body]
        if 41 in some:
            return web.json_response({"error": "41"}, status=400)
        delivered.extend(some)
        return web.json_response({})

    async with receiving() as vendor:
        vendor.answer = answer
        async with bench.running(make(Whole, vendor)):
            assert await bench.settled(64) == {**dict.fromkeys(range(64), "delivered"), 41: "dead"}
    assert len(vendor.got) <= 2 * log2(64) + 1
    assert delivered == [n for n in range(64) if n != 41]
    (letter,) = await bench.dead()
    assert (letter.reason, letter.answer) == ("bad", {"status": 400, "body": '{"error": "41"}'})


@pytest.mark.parametrize("status", [401, 403])
async def test_refused_credentials_pause_the_integration(bench: Bench, status: int):
    """Nothing is dead and nothing committed; one request at a time probes; mended credentials let all through."""
    await bench.forward(*({"n": n} for n in range(100)))
    mended = False
    async with receiving() as vendor:
        vendor.answer = lambda _: web.Response(status=200 if mended else status)
        async with bench.running(make(Vendor, vendor), items=1, concurrency=4, backoff_min=0.2, backoff_max=0.4):
            await until(lambda: len(vendor.got) >= 4)
            before = len(vendor.got)
            await until(lambda: len(vendor.got) >= before + 2)
            assert DELIVERY_PAUSED.labels("one")._value.get() == 1
            assert len(vendor.got) < 12
            assert not await bench.outcomes()
            mended = True
            assert await bench.settled(100) == dict.fromkeys(range(100), "delivered")
            assert DELIVERY_PAUSED.labels("one")._value.get() == 0
    assert not await bench.dead()


async def test_a_retired_version_pauses_the_integration(bench: Bench):
    """The first response pauses; nothing is dead, and a newer version lets all through."""
    await bench.forward(*({"n": n} for n in range(20)))
    newer = False

    class Versioned(Vendor):
        contract = replace(Vendor.contract, versions=(Version("v1", date(2027, 3, 16)),))

        def parse_response(self, response: Response, items: Sequence[Delivery]) -> Sequence[Result]:
            return [Retired()] * len(items) if response.status == 426 else super().parse_response(response, items)

    async with receiving() as vendor:
        vendor.answer = lambda _: web.Response(status=200 if newer else 426)
        async with bench.running(make(Versioned, vendor), items=1, concurrency=1, backoff_min=0.2, backoff_max=0.4):
            await until(lambda: DELIVERY_PAUSED.labels("one")._value.get() == 1)
            assert API_SUNSET.labels("one")._value.get() == datetime(2027, 3, 16, tzinfo=UTC).timestamp()
            assert not await bench.outcomes()
            newer = True
            assert await bench.settled(20) == dict.fromkeys(range(20), "delivered")
    assert not await bench.dead()


async def test_a_failing_vendor_is_probed_and_not_stormed(bench: Bench):
    """After failures in a row one request at a time goes out; all is delivered when the vendor is back."""
    await bench.forward(*({"n": n} for n in range(60)))
    back = False
    async with receiving() as vendor:
        vendor.answer = lambda _: web.Response(status=200 if back else 503)
        settings = {"items": 1, "backoff_min": 0.05, "backoff_max": 0.3, "retry_in_place": 0.1, "breaker_failures": 6}
        async with bench.running(make(Vendor, vendor), **settings):
            await until(lambda: DELIVERY_PAUSED.labels("one")._value.get() == 1)
            vendor.most_open = 0
            before = len(vendor.got)
            await until(lambda: len(vendor.got) >= before + 4)
            assert vendor.most_open <= 1
            back = True
            assert await bench.settled(60) == dict.fromkeys(range(60), "delivered")
    # While the vendor fails for all, its deliveries wait where they are.
    assert not await read(bench.broker, bench.topics.retry("one"))


async def test_what_fails_while_others_pass_takes_the_way_of_the_retry_topic(bench: Bench):
    """It comes again after the delay, as often as needed, and has one outcome; its neighbours do not wait for it."""
    await bench.forward(*({"n": n, "user": f"u{n % 2}"} for n in range(20)))
    passes = 0

    def answer(got: Got) -> web.StreamResponse:
        nonlocal passes
        if got.body[0]["user"] == "u1":
            passes += 1
            return web.Response(status=500 if passes < 9 else 200)
        return web.json_response({})

    async with receiving() as vendor:
        vendor.answer = answer
        settings = {"retry_in_place": 0.05, "retry_delay": 0.5, "breaker_failures": 1000}
        async with bench.running(make(Vendor, vendor), **settings):
            assert await bench.settled(20) == dict.fromkeys(range(20), "delivered")
    retried = [Retried.decode(record.headers) for record in await read(bench.broker, bench.topics.retry("one"))]
    assert len(retried) >= 10
    assert {one.reason for one in retried} == {"failing"}
    assert min(one.attempts for one in retried) >= 1
    assert len({one.since for one in retried if one.attempts > 4}) <= len({one.since for one in retried})
    assert (await committed(bench.broker, bench.group, bench.topics.retry("one")))[0] == len(retried)


async def test_a_retry_waits_until_it_is_due_and_holds_nobody_up(bench: Bench):
    """Deliveries in the retry topic are sent at their time, and new ones pass them by."""
    due = time.time() + 12
    await bench.forward({"n": 0}, {"n": 1}, retried=Retried(2, due, due - 5, "failing").headers())
    at: dict[int, float] = {}
    async with receiving() as vendor:
        vendor.note = lambda got: at.update({item["n"]: time.time() for item in got.body})
        async with bench.running(make(Vendor, vendor), retry_delay=60) as pipeline:
            await until(lambda: bool(pipeline.app.consumer.paused))
            assert await pipeline.lag() == 0
            await bench.forward({"n": 2})
            assert await bench.settled(3) == dict.fromkeys(range(3), "delivered")
            assert not pipeline.app.consumer.paused
            await bench.forward({"n": 3}, retried=Retried(2, time.time(), due, "failing").headers())
            await bench.settled(4)
    assert at[2] < due - 0.5
    assert at[0] >= due - 0.01
    assert at[1] < due + 60


async def test_a_delivery_that_fails_for_too_long_is_dead(bench: Bench):
    """A delivery that still fails after the retry topic's time is a dead letter that counts all attempts."""
    now = time.time()
    await bench.forward({"n": 0}, retried=Retried(7, now, now - 100, "failing").headers())
    async with receiving() as vendor:
        vendor.answer = lambda _: web.Response(status=500)
        settings = {"retry_in_place": 0, "retry_for": 60, "breaker_failures": 1000}
        async with bench.running(make(Vendor, vendor), **settings):
            assert await bench.settled(1) == {0: "dead"}
    (letter,) = await bench.dead()
    assert (letter.reason, letter.attempts) == ("retries", 8)


async def test_one_that_always_fails_does_not_keep_its_batch_from_being_delivered(bench: Bench):
    """A batch that failed, waited and fails again is halved, until only the bad one is left waiting."""
    now = time.time()
    await bench.forward(*({"n": n} for n in range(10)), retried=Retried(1, now, now - 1, "failing").headers())

    def answer(got: Got) -> web.StreamResponse:
        return web.Response(status=500 if 6 in [item["n"] for item in got.body] else 200)

    async with receiving() as vendor:
        vendor.answer = answer
        settings = {"retry_in_place": 0, "retry_delay": 60, "breaker_failures": 1000}
        async with bench.running(make(Vendor, vendor), **settings):
            assert await bench.settled(9) == {n: "delivered" for n in range(10) if n != 6}


async def test_an_ordered_integration_never_uses_the_retry_topic(bench: Bench):
    """Its lane holds, however long its head fails."""
    await bench.forward(*({"n": n} for n in range(10)))
    fails = 12

    def answer(got: Got) -> web.StreamResponse:
        nonlocal fails
        fails -= 1
        return web.Response(status=500 if fails > 0 else 200)

    async with receiving() as vendor:
        vendor.answer = answer
        settings = {"ordered": True, "retry_in_place": 0, "breaker_failures": 1000}
        async with bench.running(make(Vendor, vendor), **settings):
            await bench.settled(10)
    assert not await read(bench.broker, bench.topics.retry("one"))


async def test_a_throttled_user_waits_and_the_others_do_not(bench: Bench):
    """A vendor that takes no more of one user pauses that user alone."""

    class ByUser(Vendor):
        def parse_response(self, answer, items):
            return (
                [Throttled(10.0, "user")] * len(items)
                if answer.status == 429
                else super().parse_response(answer, items)
            )

    await bench.forward(*({"n": n, "user": f"u{n % 2}"} for n in range(40)))
    throttled: list[float] = []
    at: dict[int, float] = {}

    def answer(got: Got) -> web.StreamResponse:
        now = time.monotonic()
        if got.body[0]["user"] == "u1" and (not throttled or now < throttled[0] + 9):
            throttled.append(now)
            return web.Response(status=429)
        at.update({item["n"]: now for item in got.body})
        return web.json_response({})

    async with receiving() as vendor:
        vendor.answer = answer
        async with bench.running(make(ByUser, vendor), backoff_max=15):
            assert await bench.settled(40) == dict.fromkeys(range(40), "delivered")
    assert max(at[n] for n in range(0, 40, 2)) < throttled[0] + 9
    assert min(at[n] for n in range(1, 40, 2)) >= throttled[0] + 9
    assert len(throttled) <= 8


async def test_the_vendors_rate_is_kept_before_it_has_to_refuse(bench: Bench):
    """No more requests go out in a second than the contract says."""

    class Slow(Vendor):
        contract = Contract(
            "slow", "Slow", "https://example.com", Category.ANALYTICS, VendorSettings, VendorPayload, rates=(Rate(20),)
        )

    await bench.forward(*({"n": n} for n in range(40)))
    at: list[float] = []
    async with receiving() as vendor:
        vendor.note = lambda _: at.append(time.monotonic())
        async with bench.running(make(Slow, vendor)):
            await bench.settled(40)
    # 20 at once and 20 in the second after; what a busy machine holds up arrives closer together.
    assert at[-1] - at[0] > 0.6


async def test_a_dead_letter_that_no_record_can_hold_keeps_the_rest(bench: Bench):
    """If a payload near a record's size limit leaves no room, its dead letter has no request; the worker continues."""
    await bench.forward({"n": 0, "pad": "x" * 2_000_000}, {"n": 1})

    class Talkative(Whole):
        contract = Contract(
            "talkative", "Talkative", "https://example.com", Category.ANALYTICS, VendorSettings,
            limits=Limits(bytes=3_000_000, item_bytes=3_000_000),
        )  # fmt: skip

        def build_request(self, items):
            made = super().build_request(items)
            return type(made)(made.method, made.url, {"X-Long": "x" * 200_000}, [])

    async with receiving() as vendor:
        vendor.answer = lambda _: web.json_response({}, status=400)
        async with bench.running(make(Talkative, vendor)):
            assert await bench.settled(2) == {0: "dead", 1: "dead"}
    assert [letter.delivery["payload"].get("n") for letter in await bench.dead()] == [0, 1]
    assert [letter.request is None for letter in await bench.dead()] == [True, False]


async def test_a_mistake_of_ours_costs_its_delivery_only(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """What no one foresaw is a dead letter with type and place of the error, and the next delivery flows."""
    hear = Breaker.record_results

    def fail_once(breaker: Breaker, results: Sequence[Result], why: str = "", **_: Any) -> None:
        monkeypatch.setattr(Breaker, "record_results", hear)
        raise RuntimeError("personal data")

    monkeypatch.setattr(Breaker, "record_results", fail_once)
    await bench.forward({"n": 0}, {"n": 1})
    async with receiving() as vendor, bench.running(make(Vendor, vendor), items=1, concurrency=1):
        assert await bench.settled(2) == {0: "dead", 1: "delivered"}
    (letter,) = await bench.dead()
    assert letter.reason == "internal"
    assert re.fullmatch(r"RuntimeError at sinks/test_delivery_failures\.py:\d+", letter.detail)


async def test_those_beside_a_bad_or_a_throttled_one_go_out_again_at_once(bench: Bench):
    """0 seconds are none: neither a back-off nor another's pause holds them up; where all fail there is a back-off."""

    class Listing(Vendor):
        def group_key(self, payload):  # noqa: ARG002
            return None

        def parse_response(self, answer, items):
            if answer.status == 200:
                return super().parse_response(answer, items)
            own = {"bad": PermanentFailure("listed"), "much": Throttled(60.0, "user")}
            return [own.get(item.payload["user"], Retry(0.0)) for item in items]

    users = ["u", "bad", "u", "much", "u"]
    await bench.forward(*({"n": n, "user": user} for n, user in enumerate(users)))
    waits: list[float] = []
    at: list[float] = []

    def answer(got: Got) -> web.StreamResponse:
        at.append(time.monotonic())
        return web.Response(status=400 if len(at) < 4 else 200)

    async with receiving() as vendor:
        vendor.answer = answer
        settings = {"backoff_min": 0.25, "backoff_max": 60.0, "breaker_failures": 1000}
        with patch("random.uniform", lambda _low, high: waits.append(high) or high):
            async with bench.running(make(Listing, vendor), **settings):
                assert await bench.settled(4) == {0: "delivered", 1: "dead", 2: "delivered", 4: "delivered"}
    assert numbers(vendor.got) == [[0, 1, 2, 3, 4], [0, 2, 4], [0, 2, 4], [0, 2, 4]]
    assert waits == [0.25, 0.5, 1.0]
    for wait, (earlier, later) in zip([0, *waits[1:]], pairwise(at), strict=True):
        assert later - earlier >= 0.95 * wait


class Odd(Vendor):
    """A forwarder that makes mistakes, each for the delivery whose `note` names it."""

    def validate(self, payload):
        if payload.get("note") == "complaint":
            raise KeyError("personal data")
        return super().validate(payload)

    def group_key(self, payload):
        match payload.get("note"):
            case "group":
                raise KeyError("personal data")
            case "unhashable":
                return ["personal data"]
        return None

    def build_request(self, items):
        notes = {item.payload.get("note") for item in items}
        if "request" in notes:
            raise KeyError("personal data")
        if "none" in notes:
            return None
        made = super().build_request(items)
        if "body" in notes:
            return replace(made, body={"personal data": object()})
        return made

    def parse_response(self, answer, items):
        notes = {item.payload.get("note") for item in items}
        if "read" in notes:
            raise KeyError("personal data")
        if "result" in notes:
            return [None] * len(items)
        if "after" in notes:
            return [Retry("soon")] * len(items)
        if "detail" in notes:
            return [PermanentFailure("x", None)] * len(items)
        return super().parse_response(answer, items)


@pytest.mark.parametrize("mistake", ["complaint", "group", "unhashable", "request", "none", "body"])
async def test_a_forwarders_mistake_costs_the_delivery_that_it_was_made_for(bench: Bench, mistake: str):
    """A dead letter `internal` says the error's type and place, and no data; the others are delivered."""
    await bench.forward({"n": 0}, {"n": 1, "note": mistake}, {"n": 2})
    async with receiving() as vendor, bench.running(make(Odd, vendor)):
        assert await bench.settled(3) == {0: "delivered", 1: "dead", 2: "delivered"}
    (letter,) = await bench.dead()
    assert letter.reason == "internal"
    assert re.fullmatch(r"(KeyError|TypeError) at \w+/\w+\.py:\d+", letter.detail)
    assert (await committed(bench.broker, bench.group, bench.topics.forward("one")))[0] == 3


@pytest.mark.parametrize("mistake", ["read", "result", "after", "detail"])
async def test_an_answer_that_a_forwarder_cannot_read_is_judged_by_its_status(bench: Bench, mistake: str):
    """The vendor has taken it, so it is delivered; the mistake is counted."""
    name, labels = "turnout_internal_failures_total", {"worker": "one"}
    before = REGISTRY.get_sample_value(name, labels) or 0
    await bench.forward({"n": 0}, {"n": 1, "note": mistake})
    async with receiving() as vendor, bench.running(make(Odd, vendor), items=1):
        assert await bench.settled(2) == {0: "delivered", 1: "delivered"}
    assert (REGISTRY.get_sample_value(name, labels) or 0) == before + 1


@pytest.mark.parametrize(
    "value",
    [b"{", b"[]", b'{"v":1}', None, orjson.dumps({"v": 1, "id": 1, "from": ["t", 0, 1], "payload": {}, "rule": []})],
)
async def test_a_record_that_is_no_delivery_is_rejected_as_it_came(bench: Bench, value: bytes | None):
    """Nothing is lost, and the next one flows."""
    producer = Producer(bench.broker, client_id="send")
    await producer.start()
    acks = PendingAcks()
    producer.append(bench.topics.forward("one"), 0, acks, key=b"u", value=value)
    await acks.confirmed(60)
    await producer.stop()
    await bench.forward({"n": 1})
    async with receiving() as vendor, bench.running(make(Vendor, vendor)):
        assert await bench.settled(1) == {1: "delivered"}
        async with asyncio.timeout(60):
            while not await read(bench.broker, bench.topics.rejected):
                await asyncio.sleep(0.05)
    (record,) = await read(bench.broker, bench.topics.rejected)
    rejected = Rejected.decode(record.key, record.value, record.headers)
    assert (rejected.reason, rejected.value) == ("not_a_delivery", value or b"")
    assert rejected.origin == Origin(bench.topics.forward("one"), 0, 0)


@pytest.mark.parametrize(
    "headers",
    [
        [("turnout-attempt", None)],
        [("turnout-version", None)],
        [("turnout-attempt", b"1"), ("turnout-due", b"9" * 5000), ("turnout-since", b"x"), ("turnout-reason", b"r")],
    ],
)
async def test_odd_headers_in_the_retry_topic_are_rejected(bench: Bench, headers: Any):
    """The record is kept, and the next one flows."""
    await bench.forward({"n": 0}, retried=headers)
    await bench.forward({"n": 1}, retried=Retried(1, 0.0, time.time(), "failing").headers())
    async with receiving() as vendor, bench.running(make(Vendor, vendor)):
        assert await bench.settled(1) == {1: "delivered"}


async def test_a_newer_format_in_the_forward_topic_ends_the_worker(bench: Bench):
    """Only Turnout writes there: somebody must upgrade, and nothing is committed."""
    await bench.forward({"n": 0}, retried=[("turnout-version", b"2")])
    async with receiving() as vendor, bench.running(make(Vendor, vendor)):
        await until(lambda: bool(bench.failed))
        (why,) = bench.failed
        bench.failed.clear()
    assert "a record has format '2'" in why
    assert not (await committed(bench.broker, bench.group, bench.topics.retry("one")))[0]


@pytest.mark.parametrize("spare", range(0, 200, 40))
async def test_a_delivery_that_just_fits_its_topic_can_be_retried(bench: Bench, spare: int):
    """The retry topic's headers find room, however close the record is to the limit."""
    origin = Origin(bench.topics.events, 0, 0)
    empty = DeliveryRecord("m0", "r", "v1", "track", "E", "t", "t", "web", origin, {"n": 0, "pad": ""})
    pad = MAX_RECORD_BYTES - 2 * HEADROOM - spare - len(empty.encode()) - len(b"u")
    await bench.forward({"n": 0, "pad": "x" * pad})
    passes = 0

    def answer(_: Got) -> web.StreamResponse:
        nonlocal passes
        passes += 1
        return web.Response(status=500 if passes < 3 else 200)

    class Roomy(Vendor):
        contract = replace(Vendor.contract, limits=Limits(bytes=3_000_000, item_bytes=3_000_000), payload=None)

    async with receiving() as vendor:
        vendor.answer = answer
        settings = {"retry_in_place": 0.0, "retry_delay": 0.1, "breaker_failures": 1000, "items": 1}
        async with bench.running(make(Roomy, vendor), **settings):
            assert await bench.settled(1) == {0: "delivered"}
    assert len(await read(bench.broker, bench.topics.retry("one"))) >= 1


async def test_a_forwarder_that_fails_for_most_deliveries_stops_before_them(bench: Bench):
    """It is reported, no dead letter is written, and the committed offset stays."""
    await bench.forward(*({"n": n, "note": "complaint"} for n in range(600)))
    async with receiving() as vendor, bench.running(make(Odd, vendor)):
        await until(lambda: bool(bench.failed))
        (why,) = bench.failed
        bench.failed.clear()
    assert why == "one: more than half of 1,000 consecutive records failed"
    assert not await bench.dead()
    assert not (await committed(bench.broker, bench.group, bench.topics.forward("one")))[0]
