from math import log2

from hypothesis import example, given
from hypothesis import strategies as st

from streams.delivery.flow.bisect import BatchBisector


def deliver(count: int, bad: set[int], *, listed: bool = False) -> tuple[int, list[int], list[int]]:
    """Deliver numbers to a vendor that refuses a batch with a bad one; requests, delivered and dead in their order."""
    requests, delivered, dead = 1, [], []
    if count == 1 or not bad:
        return (1, [], [0]) if bad else (1, list(range(count)), [])
    bisector = BatchBisector(list(range(count)), poisoned=True)
    while part := bisector.next():
        requests += 1
        wrong = [n for n in part if n in bad]
        if wrong and len(part) > 1:
            bisector.report(part, dead=False)
        else:
            (dead if wrong else delivered).extend(part)
            bisector.report([], dead=bool(wrong))
    return requests, delivered, dead


@given(st.integers(1, 3000).flatmap(lambda count: st.tuples(st.just(count), st.integers(0, count - 1))))
@example((3, 1))
@example((7, 4))
def test_one_bad_item_is_found_with_few_requests(case: tuple[int, int]):
    """One poison among n costs at most 2·log2 n + 1 requests, and every good one is delivered once, in order."""
    count, bad = case
    requests, delivered, dead = deliver(count, {bad})
    assert requests <= 2 * log2(count) + 1
    assert delivered == [n for n in range(count) if n != bad]
    assert dead == [bad]


@given(st.integers(1, 200).flatmap(lambda count: st.tuples(st.just(count), st.sets(st.integers(0, count - 1)))))
def test_any_number_of_bad_items(case: tuple[int, set[int]]):
    """Whatever is bad, it alone is dead; the rest is delivered once, in order; requests stay in proportion."""
    count, bad = case
    requests, delivered, dead = deliver(count, bad)
    assert delivered == [n for n in range(count) if n not in bad]
    assert dead == sorted(bad)
    assert requests <= 2 * count + log2(count)


@given(st.integers(2, 500), st.integers(1, 100))
def test_a_batch_that_is_only_too_large_is_not_cut_smaller_than_needed(count: int, most: int):
    """Where the size was the reason, a part that passes says nothing of the others, and none is needlessly small."""
    parts: list[list[int]] = []
    if count <= most:
        return
    bisector = BatchBisector(list(range(count)), poisoned=False)
    while part := bisector.next():
        if len(part) > most:
            bisector.report(part, dead=False)
        else:
            parts.append(part)
            bisector.report([], dead=False)
    assert [n for part in parts for n in part] == list(range(count))
    assert min(map(len, parts)) >= (most + 1) // 2
