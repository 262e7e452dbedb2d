"""What deliveries that always fail cost the others, in virtual time."""

import asyncio
import random
from collections.abc import Sequence
from math import ceil, log2
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarders.api.contract import Category, Contract, Rate
from streams.records.delivery import Retried
from tests.support.offline_delivery import (
    START,
    Behaviour,
    OfflineBench,
    OpenSettings,
    OpenVendor,
    OpenWriter,
    virtually,
)

HOUR = 3600.0
FAILURES = [500, 503, 401, 403, 429, None]


def refusing(bad: dict[int, int | None]) -> Behaviour:
    """A vendor that answers a request with the status of the first bad number in it."""

    def behave(payloads: Sequence[dict[str, Any]], _now: float) -> int | None:
        return next((bad[each["n"]] for each in payloads if each["n"] in bad), 200)

    return behave


def down(seconds: float, status: int | None = 503) -> Behaviour:
    """A vendor that fails all requests for a time."""
    return lambda _payloads, now: status if now < seconds else 200


def numbered(count: int, users: int | None = None, first: int = 0) -> list[dict[str, Any]]:
    return [{"n": n, "u": n % users if users else n} for n in range(first, first + count)]


async def trickle(bench: OfflineBench, every: float, first: int = 1_000_000) -> None:
    """Forward a valid delivery of a new user at each interval."""
    for n in range(first, first + 100_000):
        await bench.forward([{"n": n, "u": n}])
        await asyncio.sleep(every)


@given(
    st.integers(1, 80).flatmap(
        lambda count: st.tuples(
            st.just(count),
            st.dictionaries(st.integers(0, count - 1), st.sampled_from([500, 403, None]), max_size=count),
        )
    ),
    st.integers(1, 12),
    st.sampled_from([1, 1, 5, 50]),
    st.sampled_from([OpenVendor, OpenWriter]),
    st.integers(0, 2**32),
)
@settings(max_examples=15)
def test_any_set_of_always_failing_deliveries(case, concurrency, items, kind, seed):
    """Every good delivery is delivered once within a bounded number of requests; every other one leaves for good."""
    count, bad = case
    random.seed(seed)

    async def run() -> None:
        bench = OfflineBench(refusing(bad), items=items, kind=kind, concurrency=concurrency)
        await bench.start()
        await bench.forward(numbered(count))
        good = set(range(count)) - set(bad)
        await bench.until(lambda: good <= set(bench.got), 6 * HOUR)
        assert len(bench.requests) <= count + 20 * len(bad) * (2 + ceil(log2(items)))
        assert len(bench.got) == len(good)
        await bench.until(lambda: set(bad) <= {n for n, _ in bench.retried} | set(bench.dead), 6 * HOUR)
        assert not good & set(bench.dead)
        await bench.stop()

    virtually(run())


@given(
    st.dictionaries(st.integers(0, 59), st.sampled_from([500, 403, None]), max_size=30),
    st.integers(1, 6),
    st.integers(1, 12),
    st.sampled_from([1, 5]),
    st.integers(0, 2**32),
)
@settings(max_examples=6)
def test_any_failing_deliveries_of_an_ordered_integration(bad, concurrency, users, items, seed):
    """Each user's good deliveries arrive once and in order, after the bad ones before them are dead."""
    random.seed(seed)

    async def run() -> None:
        bench = OfflineBench(refusing(bad), items=items, ordered=True, concurrency=concurrency, retry_for=300)
        await bench.start()
        beside = bench.loop.create_task(trickle(bench, 10))
        await bench.forward(numbered(60, users))
        await bench.until(lambda: {n for n in range(60) if n not in bad} <= set(bench.got), 12 * HOUR)
        await bench.until(lambda: set(bad) <= set(bench.dead), 12 * HOUR)
        for user in range(users):
            own = [n for n in bench.got if n < 60 and n % users == user]
            assert own == [n for n in range(60) if n % users == user and n not in bad]
        assert not bench.retried
        beside.cancel()
        await bench.stop()

    virtually(run())


@pytest.mark.parametrize("status", FAILURES)
@pytest.mark.parametrize(("poison", "concurrency"), [(8, 8), (8, 1), (40, 8)])
def test_poison_at_the_head_does_not_stop_the_others(status, poison, concurrency):
    """More always-failing deliveries than workers cost the 992 others few requests and little time."""

    async def run() -> None:
        bench = OfflineBench(refusing(dict.fromkeys(range(poison), status)), concurrency=concurrency)
        await bench.start()
        await bench.forward(numbered(1000))
        took = await bench.until(lambda: len(bench.got) == 1000 - poison, 1200)
        assert len(bench.requests) <= 1000 + 4 * poison
        # Time-outs take 20 s each, and each 429 pauses all for a while.
        assert took <= {None: 60 + 25 * poison / concurrency, 429: 300}.get(status, 60)
        await bench.stop()

    virtually(run())


@pytest.mark.parametrize("status", [500, 403])
@pytest.mark.parametrize("kind", [OpenVendor, OpenWriter])
def test_poison_in_batches(status, kind):
    """Of 2,000 deliveries, 50 a request, 8 of them poison, 1,992 are delivered once and 8 end in the retry topic."""

    async def run() -> None:
        bad = {50 * n + 7: status for n in range(8)}
        bench = OfflineBench(refusing(bad), items=50, kind=kind)
        await bench.start()
        await bench.forward(numbered(2000))
        await bench.until(lambda: len(bench.got) == 1992, 120)
        assert len(bench.requests) <= 200
        await bench.until(lambda: {n for n, _ in bench.retried} == set(bad), 300)
        await bench.stop()

    virtually(run())


@pytest.mark.parametrize("poison", [2, 8, 50])
def test_poison_alone_makes_room_within_minutes(poison):
    """While nothing passes, each delivery is in the retry topic after five probes; that does not age it."""

    async def run() -> None:
        bench = OfflineBench(refusing(dict.fromkeys(range(poison), 500)), returns=False)
        await bench.start()
        await bench.forward(numbered(poison))
        await bench.until(lambda: len(bench.retried) == poison, 30 * 60)
        assert {retried.reason for _, retried in bench.retried} == {"paused"}
        # Ten failures open the breaker, with up to eight requests in flight; then each delivery has five probes.
        assert sum(bench.tries.values()) <= 10 + 8 + 5 * poison
        assert all(retried.due - retried.since < 60 for _, retried in bench.retried)
        await bench.stop()

    virtually(run())


def test_ten_thousand_failing_deliveries_alone_wait_for_the_vendor():
    """On their own they are an outage: none moves or is dead; once the vendor responds, all arrive within a minute."""

    async def run() -> None:
        bench = OfflineBench(down(2 * HOUR, 500))
        await bench.start()
        await bench.forward(numbered(10_000))
        await bench.until(lambda: len(bench.got) == 10_000, 2 * HOUR + 60)
        assert not bench.dead
        assert not bench.retried
        await bench.stop()

    virtually(run())


def test_many_failing_deliveries_are_in_the_retry_topic_minutes_after_others_pass():
    """A thousand that were alone for an hour, and still fail when the vendor answers others, move within minutes."""
    random.seed(1)

    async def run() -> None:
        bench = OfflineBench(lambda payloads, _: 500 if payloads[0]["n"] < 1000 else 200, returns=False)
        await bench.start()
        await bench.forward(numbered(1000))
        await asyncio.sleep(HOUR)
        assert not bench.dead
        beside = bench.loop.create_task(trickle(bench, 1))
        await bench.until(lambda: {n for n, _ in bench.retried} == set(range(1000)), 600)
        assert len(bench.got) >= bench.loop.time() - HOUR - 60
        beside.cancel()
        await bench.stop()

    virtually(run())


def test_good_deliveries_behind_more_poison_than_memory_holds():
    """While memory is full of poison, some of it makes room so that later deliveries are fetched and tried."""
    random.seed(1)

    async def run() -> None:
        bench = OfflineBench(lambda payloads, _: 500 if payloads[0]["n"] < 5000 else 200, budget=300_000)
        await bench.start()

        async def feed() -> None:
            for first in range(0, 5200, 100):
                while not await bench.progress.wait_for_room(10_000):
                    pass
                await bench.forward(numbered(100, first=first))

        feeding = bench.loop.create_task(feed())
        await bench.until(lambda: len(bench.got) == 200, 2 * HOUR)
        feeding.cancel()
        await bench.stop()

    virtually(run())


@pytest.mark.parametrize(
    ("count", "seconds", "items", "status", "ordered"),
    [
        (1000, 10, 1, 503, False),
        (1000, 10, 1, 401, False),
        (1000, 10, 1, None, False),
        (1000, 10, 1, 503, True),
        (2000, 10, 50, 503, False),
        (2000, 10, 50, 401, True),
        (200, 60, 1, 503, False),
        (200, 60, 1, 503, True),
        (2000, HOUR, 1, 503, False),
    ],
)
def test_an_outage_costs_no_delivery_more_than_three_tries(count, seconds, items, status, ordered):
    """While the vendor is down delivery pauses; then all are delivered, and none is dead or in the retry topic."""

    async def run() -> None:
        bench = OfflineBench(down(seconds, status), items=items, ordered=ordered, timeout=5)
        await bench.start()
        await bench.forward(numbered(count))
        await bench.until(lambda: len(bench.got) == count, seconds + 60)
        assert max(bench.tries.values()) <= 3
        assert not bench.dead
        assert not bench.retried
        await bench.stop()

    virtually(run())


@pytest.mark.parametrize("status", [503, 403])
def test_a_flapping_vendor_loses_nothing(status):
    """Failures at random, and outages of five minutes every ten, make no delivery dead."""

    async def run() -> None:
        random.seed(7)
        fails = lambda now: now % 600 > 300 or random.random() < 0.3  # noqa: E731
        bench = OfflineBench(lambda _, now: status if now < 2 * HOUR and fails(now) else 200, retry_for=HOUR)
        await bench.start()
        for first in range(0, 1800, 50):
            await bench.forward(numbered(50, first=first))
            await asyncio.sleep(200)
        await bench.until(lambda: len(bench.got) == 1800, HOUR)
        assert not bench.dead
        await bench.stop()

    virtually(run())


@pytest.mark.parametrize("status", [500, 401, 429, None])
def test_the_only_delivery_of_a_quiet_integration_never_dies_of_an_outage(status):
    """However long a token has expired or a vendor is down, the one delivery that waits for it is delivered later."""

    async def run() -> None:
        bench = OfflineBench(down(4 * HOUR, status), retry_for=HOUR)
        await bench.start()
        await bench.forward(numbered(1))
        await bench.until(lambda: bench.got == [0], 5 * HOUR)
        assert not bench.dead
        await bench.stop()

    virtually(run())


@pytest.mark.parametrize("status", [500, 403, 429])
@pytest.mark.parametrize("ordered", [False, True])
def test_a_delivery_that_fails_while_others_pass_is_dead_after_its_time(status, ordered):
    """It is dead once `retry_for` has passed, not much earlier or later, and the others do not notice."""

    async def run() -> None:
        bench = OfflineBench(refusing({0: status}), retry_for=HOUR, ordered=ordered)
        await bench.start()
        beside = bench.loop.create_task(trickle(bench, 5))
        await bench.forward(numbered(1))
        took = await bench.until(lambda: 0 in bench.dead, 3 * HOUR)
        assert took >= 0.9 * HOUR
        assert bench.dead[0].reason == "retries"
        assert len(bench.got) >= took / 5 - 30
        assert not bench.sink._breaker.is_open
        beside.cancel()
        await bench.stop()

    virtually(run())


def test_an_outage_does_not_age_what_waits_in_the_retry_topic():
    """A delivery that failed for itself before an outage longer than `retry_for` is delivered after it."""

    async def run() -> None:
        def behave(payloads: Sequence[dict[str, Any]], now: float) -> int:
            if payloads[0]["n"] == 0 and now < 1200:
                return 500
            return 503 if 1200 <= now < 3 * HOUR else 200

        bench = OfflineBench(behave, retry_for=HOUR)
        await bench.start()
        beside = bench.loop.create_task(trickle(bench, 20))
        await bench.forward(numbered(1))
        await bench.until(lambda: 0 in bench.got, 4 * HOUR)
        assert not bench.dead
        assert {retried.reason for n, retried in bench.retried if n == 0} >= {"failing"}
        beside.cancel()
        await bench.stop()

    virtually(run())


def test_a_failing_head_holds_its_own_key_only():
    """Other users' deliveries in the same lane continue at once; the user's own follow in order after the head."""

    async def run() -> None:
        bench = OfflineBench(
            lambda payloads, now: 500 if payloads[0]["n"] == 0 and now < 100 else 200, ordered=True, concurrency=1
        )
        await bench.start()
        await bench.forward(numbered(60, users=3))
        await bench.until(lambda: {n for n in range(60) if n % 3} <= set(bench.got), 10)
        assert not [n for n in bench.got if n % 3 == 0]
        await bench.until(lambda: len(bench.got) == 60, 300)
        assert [n for n in bench.got if n % 3 == 0] == list(range(0, 60, 3))
        await bench.stop()

    virtually(run())


def test_keys_that_wait_use_bounded_memory():
    """Once individually failing keys use up their room, their heads become dead letters early and others continue."""

    async def run() -> None:
        bench = OfflineBench(
            lambda payloads, _: 403 if payloads[0]["n"] % 2 else 200,
            ordered=True, fetched_bytes=1024 * 1024, budget=1024 * 1024,
        )  # fmt: skip
        await bench.start()
        sent = 0
        while sent < 1600:
            assert await bench.progress.wait_for_room(HOUR), f"delivery has stopped; {bench}"
            await bench.forward([{**each, "pad": "x" * 1000} for each in numbered(20, first=sent)])
            sent += 20
        await bench.until(lambda: len(bench.got) == 800, HOUR)  # 150 s mostly; probes are drawn by chance
        holding = bench.sink._schedule.holds
        assert holding is not None
        assert holding._excluded_bytes < 600_000
        assert bench.dead
        assert {letter.reason for letter in bench.dead.values()} == {"retries"}
        await bench.stop()

    virtually(run())


def test_what_waits_behind_a_failing_event_uses_only_its_own_memory():
    """A user's deliveries wait behind one that fails, while many more of other users come and go."""

    async def run() -> None:
        bench = OfflineBench(
            lambda payloads, _: 500 if bad and any(each["n"] == 0 for each in payloads) else 200,
            ordered=True, fetched_bytes=1024 * 1024, budget=1024 * 1024,
        )  # fmt: skip
        bad = True
        await bench.start()
        for n in range(0, 2000, 20):
            assert await bench.progress.wait_for_room(HOUR), f"delivery has stopped; {bench}"
            await bench.forward([{"n": n + i, "u": "failing" if i == 0 else f"u{i}"} for i in range(20)])
        await bench.until(lambda: len(bench.got) == 1900, HOUR)
        assert not bench.dead
        bad = False
        await bench.until(lambda: len(bench.got) == 2000, HOUR)
        assert [n for n in bench.got if n % 20 == 0] == list(range(0, 2000, 20))
        await bench.stop()

    virtually(run())


def test_order_holds_across_groups():
    """Deliveries of one user keep their order also if they may not share a request."""

    class Grouping(OpenVendor):
        def group_key(self, payload):
            return payload["g"]

    async def run() -> None:
        bench = OfflineBench(lambda *_: 200, items=4, kind=Grouping, ordered=True, concurrency=1)
        await bench.start()
        groups = "abbbbaabbbbbaba"
        await bench.forward([{"n": n, "u": "u", "g": group} for n, group in enumerate(groups)])
        await bench.until(lambda: len(bench.got) == len(groups), 60)
        assert bench.got == list(range(len(groups)))
        await bench.stop()

    virtually(run())


@pytest.mark.parametrize("ordered", [False, True])
def test_a_users_rate_counts_a_delivery_once(ordered):
    """Failed attempts do not use up the user's rate."""

    class Limited(OpenVendor):
        contract = Contract(
            "limited", "Limited", "https://example.com", Category.ANALYTICS, OpenSettings,
            rates=(Rate(1, seconds=1000, of="items", per="user"),),
        )  # fmt: skip

    async def run() -> None:
        bench = OfflineBench(lambda *_: 500 if len(bench.requests) < 4 else 200, kind=Limited, ordered=ordered)
        await bench.start()
        await bench.forward([{"n": 0, "u": "u"}])
        assert await bench.until(lambda: bench.got == [0], 60) < 30
        await bench.stop()

    virtually(run())


class PerUser(OpenVendor):
    """A vendor that accepts 10 deliveries per second and user."""

    contract = Contract(
        "limited", "Limited", "https://example.com", Category.ANALYTICS, OpenSettings,
        rates=(Rate(10, seconds=1, of="items", per="user"),),
    )  # fmt: skip


def test_a_hot_user_costs_the_others_little():
    """While 2 % of all deliveries are of one user with a rate, the others take at most a tenth longer."""

    async def run(hot: bool) -> float:
        bench = OfflineBench(lambda *_: 200, kind=PerUser, budget=400_000, latency=0.01, concurrency=8)
        await bench.start()
        users = [0 if hot and n % 50 == 0 else n for n in range(10_000)]
        for first in range(0, 10_000, 100):
            while not await bench.progress.wait_for_room(HOUR):
                pass
            await bench.forward([{"n": n, "u": users[n]} for n in range(first, first + 100)])
        others = {n for n in range(10_000) if n % 50}
        await bench.until(lambda: others <= set(bench.got), 600)
        took = bench.loop.time()
        if hot:
            assert {retried.reason for _, retried in bench.retried} == {"rate"}
            await bench.until(lambda: len(bench.got) == 10_000, HOUR)
            assert max(bench.tries.values()) == 1
            assert not bench.dead
        await bench.stop()
        return took

    alone = virtually(run(hot=False))
    assert virtually(run(hot=True)) < 1.1 * alone


class OncePerHour(OpenVendor):
    """A vendor that accepts one delivery per hour and user."""

    contract = Contract(
        "limited", "Limited", "https://example.com", Category.ANALYTICS, OpenSettings,
        rates=(Rate(1, seconds=3600, of="items", per="user"),),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "reason"), [({"retry_for": 3 * HOUR}, "rate"), ({"max_age": 3 * HOUR}, "expired")]
)
def test_what_never_catches_up_ends(settings, reason):
    """A user's deliveries beyond its rate are dead with reason `rate` after `retry_for`, or expired before."""

    async def run() -> None:
        bench = OfflineBench(lambda *_: 200, kind=OncePerHour, **settings)
        await bench.start()
        await bench.forward(numbered(20, users=1))
        if reason == "rate":
            await bench.until(lambda: len(bench.dead) + len(bench.got) == 20, 5 * HOUR)
            assert {letter.reason for letter in bench.dead.values()} == {"rate"}
        else:
            await bench.until(lambda: not bench.progress.held and bench.loop.time() > 3 * HOUR + 600, 5 * HOUR)
            assert not bench.dead
        assert 3 <= len(bench.got) <= 5
        assert max(bench.tries.values()) == 1
        await bench.stop()

    virtually(run())


def test_a_delivery_that_waited_for_its_users_rate_is_no_suspect():
    """Its first failure after that is the vendor's: an outage then pauses delivery, and nothing is dead."""

    async def run() -> None:
        bench = OfflineBench(lambda _, now: 503 if now > 100 else 200, kind=PerUser, retry_for=HOUR)
        await bench.start()
        due = START + 120
        await bench.forward(numbered(1, first=1000))
        await bench.until(lambda: 1000 in bench.got, 10)
        retried = Retried(1, due, due - 60, "throttled").headers()
        await bench.forward(numbered(12), retried=retried)
        await bench.until(lambda: bench.sink._breaker.is_open, 300)
        assert len(bench.requests) <= 1 + 10 + 8
        await bench.stop()

    virtually(run())


def test_retries_that_are_not_due_use_no_memory():
    """Deliveries that wait in the retry topic are not held, and are sent once when they are due."""

    async def run() -> None:
        bench = OfflineBench(lambda *_: 200, retry_delay=600)
        await bench.start()
        due = START + 500
        await bench.forward(numbered(2000), retried=Retried(1, due, due - 600, "failing").headers())
        await asyncio.sleep(10)
        assert not bench.progress.held
        assert not bench.requests
        await bench.until(lambda: len(bench.got) == 2000, 600)
        assert min(at for at, _, _ in bench.requests) >= 500
        assert max(bench.tries.values()) == 1
        await bench.stop()

    virtually(run())


@pytest.mark.parametrize(("ahead", "at_once"), [(310, False), (48 * HOUR, True)])
def test_a_due_time_by_a_clock_that_differs(ahead, at_once):
    """A retry waits at most the delay if clocks differ a little; a due time days ahead is not waited for."""

    async def run() -> None:
        bench = OfflineBench(lambda *_: 200)
        await bench.start()
        await bench.forward(numbered(1), retried=Retried(1, START + ahead, START, "failing").headers())
        took = await bench.until(lambda: bench.got == [0], 700)
        assert (took < 10) == at_once
        assert took <= 311
        await bench.stop()

    virtually(run())
