"""Sampling: which part of the events an integration gets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.routing.eligibility import Sample, in_sample


def sampled(rate: float, count: int = 4000, by: str = "userId") -> set[int]:
    """The numbers of the users that are in the sample."""
    return {n for n in range(count) if in_sample(Sample(rate, by), {"type": "page", "userId": f"user-{n}"})}


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_part_is_as_large_as_it_should_be(rate: float):
    """Of many users the given part is in the sample."""
    assert abs(len(sampled(rate)) / 4000 - rate) < 0.04


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_larger_sample_holds_the_smaller(one: float, other: float):
    """Raising the rate adds users and takes none away, so that funnels stay whole across integrations."""
    small, large = sorted((one, other))
    assert sampled(small, 50) <= sampled(large, 50)


def test_none_and_all():
    """A rate of 0 is nobody, and of 1 everybody."""
    assert sampled(0.0) == set()
    assert len(sampled(1.0)) == 4000


def test_all_events_of_a_user_share_their_fate():
    """The field decides alone; an event that lacks it goes by anonymousId, else by userId."""
    half = Sample(0.5, "userId")
    by_group = Sample(0.5, "groupId")
    for n in range(50):
        user = {"type": "page", "userId": f"user-{n}"}
        inside = in_sample(half, user)
        assert in_sample(half, {**user, "type": "track", "event": "Bought", "anonymousId": "x"}) is inside
        assert in_sample(half, {"type": "page", "anonymousId": f"user-{n}"}) is inside
        assert in_sample(by_group, {"type": "group", "userId": "x", "groupId": f"user-{n}"}) is inside
        assert in_sample(by_group, {**user, "anonymousId": "x"}) is in_sample(half, {"userId": "x"})
        assert in_sample(by_group, user) is inside


def test_the_same_users_are_sampled_after_an_upgrade():
    """Who is in the sample is fixed for good: a change would cut every user's history."""
    assert sorted(sampled(0.2, 30)) == [0, 8, 10, 15, 16, 19, 25, 27]
