from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarders.api.contract import Rate
from streams.delivery.flow.rates import MAX_TRACKED_USERS, Rates
from streams.delivery.flow.settings import DeliverySettings
from tests.support.delivering import Vendor


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@given(
    st.integers(1, 2000),
    st.floats(0.5, 60),
    st.sampled_from(["requests", "items"]),
    st.lists(st.integers(1, 100), min_size=20, max_size=200),
    st.floats(0.05, 1),
)
def test_no_more_goes_out_than_the_rate_and_a_tenth(count, seconds, of, sizes, share):
    """In any stretch of time no more is sent than the worker's share of the rate allows, and a small burst."""
    clock = Clock()
    rates = Rates([Rate(count, seconds, of)], clock)
    rates.share = share
    sent: list[tuple[float, int]] = []
    for size in sizes:
        clock.now += rates.wait(size)
        sent.append((clock.now, size if of == "items" else 1))
    burst = max(1.0, count / 10 * share)
    for first in range(0, len(sent), 7):
        total = 0
        for at, cost in sent[first:]:
            # The first may have paid beforehand; what counts is what follows it.
            allowed = burst + (at - sent[first][0]) * count / seconds * share + sent[first][1]
            total += cost
            assert total <= allowed + 1e-6 * allowed


def test_every_rate_of_a_vendor_holds(clock: Clock):
    """Of several rates the slowest decides."""
    rates = Rates([Rate(1000), Rate(60, seconds=60)], clock)
    for _ in range(6):
        assert rates.wait(1) == 0
    assert rates.wait(1) == pytest.approx(1)


def test_a_pause_holds_all(clock: Clock):
    """A pause requested by the vendor is kept even without a rate in the contract; a shorter one does not end it."""
    rates = Rates([], clock)
    assert rates.wait(1) == 0
    rates.pause(30)
    rates.pause(5)
    assert rates.wait(1) == 30
    clock.now += 30
    assert rates.wait(1) == 0


def wait_of_next(rates: Rates, user: bytes) -> float:
    """Reserve a slot of a user; return the seconds until it."""
    return rates.wait_for_slot(user, rates.reserve(user))


def test_users_wait_for_themselves_only(clock: Clock):
    """A user beyond the rate for each waits, others do not; what waited is not counted twice."""
    rates = Rates([Rate(30, of="items", per="user")], clock)
    assert rates.limits_users
    waits = [wait_of_next(rates, b"a") for _ in range(63)]
    assert waits[:3] == [0, 0, 0]
    assert waits[-1] == pytest.approx(2)
    assert wait_of_next(rates, b"b") == 0
    clock.now += waits[-1]
    assert rates.wait_of_user(b"a") == pytest.approx(0)
    assert rates.wait(1) == 0


def test_a_paused_user(clock: Clock):
    """The vendor may throttle one user, even if the contract has no rate for users."""
    rates = Rates([], clock)
    assert not rates.limits_users
    rates.pause_user(b"a", 30)
    assert rates.limits_users
    assert wait_of_next(rates, b"a") == pytest.approx(30, abs=0.01)
    assert wait_of_next(rates, b"b") == 0
    clock.now += 31
    assert wait_of_next(rates, b"a") == 0


def test_a_slot_is_kept_while_others_come_later(clock: Clock):
    """An item with a slot waits no longer because more of its user are reserved; a pause moves all slots."""
    rates = Rates([Rate(10, seconds=1, of="items", per="user")], clock)
    slots = [rates.reserve(b"a") for _ in range(100)]
    clock.now += 2
    assert [rates.wait_for_slot(b"a", slot) for slot in slots[:20]] == pytest.approx([0] * 20)
    assert rates.wait_for_slot(b"a", slots[50]) == pytest.approx(3)
    assert rates.wait_of_user(b"a") == pytest.approx(7.9)
    rates.pause_user(b"a", 30)
    rates.pause_user(b"a", 10)
    assert rates.wait_for_slot(b"a", slots[50]) == pytest.approx(33)
    clock.now += 33
    assert rates.wait_for_slot(b"a", slots[50]) == pytest.approx(0)


def test_users_are_forgotten_when_they_wait_for_nothing(clock: Clock):
    """Memory stays bounded however many users there are."""
    rates = Rates([Rate(30, of="items", per="user")], clock)
    for number in range(3 * MAX_TRACKED_USERS):
        rates.reserve(b"%d" % number)
        clock.now += 0.1
    assert len(rates._users) <= MAX_TRACKED_USERS


def test_the_settings_add_a_rate_to_the_vendors():
    """`requests_per_second` slows an integration down below what its vendor takes, and no setting adds none."""
    contract = Vendor.contract
    assert Rates.of(contract, DeliverySettings()).wait(1) == 0
    free = Rates.of(contract, DeliverySettings())
    assert [free.wait(1) for _ in range(100)] == [0] * 100
    slowed = Rates.of(contract, DeliverySettings(requests_per_second=0.5))
    assert slowed.wait(10) == 0
    assert slowed.wait(10) == pytest.approx(2, abs=0.5)
    limited = Rates.of(replace(contract, rates=(Rate(1, 60),)), DeliverySettings(requests_per_second=0.5))
    assert limited.wait(1) == 0
    assert limited.wait(1) == pytest.approx(60, abs=0.5)


def test_every_rate_of_a_user_holds(clock: Clock):
    """Of several rates for each user the slowest decides, and a user who never came before waits for nothing."""
    rates = Rates([Rate(100, of="items", per="user"), Rate(60, 60, of="items", per="user")], clock)
    for _ in range(6):
        assert wait_of_next(rates, b"a") == 0
    assert wait_of_next(rates, b"a") == pytest.approx(1)
    assert wait_of_next(rates, b"b") == 0


def test_a_slow_rate_has_no_burst(clock: Clock):
    """A rate of a few per minute allows one request at a time, even for a worker with a small share."""
    rates = Rates([Rate(6, 60)], clock)
    rates.share = 0.5
    assert rates.wait(1) == 0
    assert rates.wait(1) == pytest.approx(20)
