"""How deliveries are gathered into batches."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarders.api.contract import Limits
from streams.delivery.flow.batches import Batch, Batches
from streams.delivery.outcomes.pending import PendingDelivery

pytestmark = pytest.mark.anyio

LIMITS = Limits(items=4, bytes=100)


def pending(user: str, number: int, size: int = 10) -> PendingDelivery:
    unused: Any = None
    return PendingDelivery(unused, user.encode(), size, unused, number)


def numbers(deliveries: list[PendingDelivery]) -> list[int]:
    return [pending.index for pending in deliveries]


async def test_a_batch_that_waits_in_the_queue_goes_on_to_fill():
    """After its linger it is queued and takes more until it is taken or full; then another is begun."""
    queue: list[Batch] = []
    batches = Batches(LIMITS, 0.01, lambda _queue, batch: queue.append(batch))
    batches.add(pending("u", 0), 0, "g")
    await asyncio.sleep(0.05)
    assert len(queue) == 1
    batches.add(pending("v", 1), 0, "g")
    batches.add(pending("v", 2), 0, "other")
    assert numbers(batches.seal(queue[0])) == [0, 1]
    batches.add(pending("u", 3), 0, "g")
    assert numbers(queue[0].deliveries) == [0, 1]
    await asyncio.sleep(0.05)
    assert [numbers(batches.seal(batch)) for batch in queue[1:]] == [[2], [3]]


async def test_a_batch_is_queued_when_it_is_full():
    """By number or by bytes, without waiting for the linger; one delivery over the bytes goes alone."""
    queue: list[Batch] = []
    batches = Batches(LIMITS, 60, lambda _queue, batch: queue.append(batch))
    for number in range(4):
        batches.add(pending("u", number), 0, "g")
    for number, size in ((4, 60), (5, 50), (6, 200), (7, 1)):
        batches.add(pending("u", number, size), 0, "g")
    assert [numbers(batches.seal(batch)) for batch in queue] == [[0, 1, 2, 3], [4], [5], [6]]
    batches.clear()


Step = st.one_of(
    st.tuples(st.sampled_from("uvw"), st.sampled_from("gh"), st.integers(1, 60)), st.just("take"), st.just("linger")
)


@given(steps=st.lists(Step, max_size=60), ordered=st.booleans())
def test_every_delivery_goes_out_once_and_a_users_in_order(steps: list[Any], ordered: bool):
    """Whenever batches are taken and lingers end: no limit is broken, no groups are mixed, and ordered is ordered."""

    async def run() -> None:
        queue: list[Batch] = []
        taken: list[PendingDelivery] = []
        groups: dict[int, str] = {}
        batches = Batches(LIMITS, 60, lambda _queue, batch: queue.append(batch), ordered=ordered)

        def take() -> None:
            deliveries = batches.seal(queue.pop(0))
            assert len(deliveries) <= LIMITS.items
            assert len(deliveries) == 1 or sum(each.size for each in deliveries) <= LIMITS.bytes
            assert len({groups[each.index] for each in deliveries}) == 1
            taken.extend(deliveries)

        def end_lingers() -> None:
            for batch in list(batches._open.values()):
                batches._end_linger(batch)

        for step in steps:
            if step == "take":
                if queue:
                    take()
            elif step == "linger":
                end_lingers()
            else:
                user, group, size = step
                groups[len(groups)] = group
                batches.add(pending(user, len(groups) - 1, size), 0, group)
        end_lingers()
        while queue:
            take()
        assert sorted(numbers(taken)) == list(range(len(groups)))
        assert not batches._open
        assert not batches._last
        if ordered:
            for user in (b"u", b"v", b"w"):
                own = [each.index for each in taken if each.key == user]
                assert own == sorted(own)

    asyncio.run(run())
