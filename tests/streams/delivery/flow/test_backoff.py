"""How long a failed try waits for the next."""

from hypothesis import given
from hypothesis import strategies as st

from streams.delivery.flow.backoff import backoff
from streams.delivery.flow.settings import DeliverySettings

SETTINGS = DeliverySettings(backoff_min=0.5, backoff_max=60)
ASKED = st.none() | st.floats(0, 1000)


@given(st.integers(0, 10_000), st.lists(ASKED, min_size=1, max_size=4))
def test_it_keeps_its_bounds(tries: int, asked: list[float | None]):
    """A pause is at most `backoff_max`, and at least the longest time that the vendor requests, up to that maximum."""
    wait = backoff(SETTINGS, tries, *asked)
    wanted = max(seconds or 0.0 for seconds in asked)
    assert min(wanted, 60) <= wait <= max(min(0.5 * 2 ** min(tries, 30), 60), min(wanted, 60))


def test_the_bound_doubles_with_each_try():
    """The waits of many workers spread over the whole of a time that doubles, so that they do not come all at once."""
    for tries, bound in ((0, 0.5), (1, 1), (3, 4), (6, 32), (7, 60), (50, 60)):
        waits = [backoff(SETTINGS, tries, None) for _ in range(400)]
        assert max(waits) <= bound
        assert max(waits) > 0.9 * bound
        assert min(waits) < 0.1 * bound


def test_a_vendor_that_asks_for_no_wait_gets_the_first_retry_at_once():
    """Only a first retry may be immediate, if requested for all failed deliveries; else a vendor could be flooded."""
    assert backoff(SETTINGS, 0, 0.0, 0.0) == 0
    assert any(backoff(SETTINGS, 1, 0.0) for _ in range(50))
    assert any(backoff(SETTINGS, 0, 0.0, None) for _ in range(50))
    assert any(backoff(SETTINGS, 0, None) for _ in range(50))
