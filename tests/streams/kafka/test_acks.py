"""Pending confirmations, and what happens when all have come."""

import pytest

from streams.kafka.acks import PendingAcks


@pytest.mark.parametrize("errors", [[RuntimeError(), None], [None, RuntimeError()], [RuntimeError(), RuntimeError()]])
def test_a_refused_confirmation_is_never_forgotten(errors: list[Exception | None]):
    """The first error is reported, whatever is confirmed before or after."""
    settled: list[BaseException | None] = []
    acks = PendingAcks(settled.append)
    for _ in errors:
        acks.hold()
    acks.seal()
    for error in errors:
        assert not settled
        acks.release(error)
    assert settled == [next(filter(None, errors))]


def test_nothing_is_settled_before_the_last_confirmation():
    """Nor before its owner has sealed it."""
    settled: list[BaseException | None] = []
    acks = PendingAcks(settled.append)
    acks.hold()
    acks.release(None)
    acks.hold()
    acks.seal()
    acks.seal()
    assert not settled
    acks.release(None)
    assert settled == [None]
