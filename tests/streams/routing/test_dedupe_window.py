"""What the window of messageIds guarantees, across any number of its generations."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.routing.dedupe import Window

SIZE = 4


def repeats(window: Window, message_ids: Iterable[str], first: int = 0) -> list[bool]:
    """Whether each of these events, at consecutive offsets from `first`, is a repeat."""
    return [window.repeats("web", message_id, offset) for offset, message_id in enumerate(message_ids, first)]


def distinct(count: int) -> list[str]:
    return [f"m{number}" for number in range(count)]


@pytest.mark.parametrize("count", range(1, 3 * SIZE + 2))
def test_the_last_events_are_known_however_many_came_before(count: int):
    """Each of the last SIZE events is recognized when it is sent again, in whichever generation it is."""
    for message_id in distinct(count)[-SIZE:]:
        window = Window(SIZE)
        assert not any(repeats(window, distinct(count)))
        assert window.repeats("web", message_id, count), message_id


@pytest.mark.parametrize("count", range(1, 3 * SIZE + 2))
def test_a_redelivery_is_no_repeat_in_any_generation(count: int):
    """An event that Kafka delivers again at its own offset is routed again."""
    for offset, message_id in enumerate(distinct(count)):
        window = Window(SIZE)
        repeats(window, distinct(count))
        assert not window.repeats("web", message_id, offset), message_id


def test_a_whole_window_delivered_again_loses_nothing():
    """After a crash everything since the last commit comes again: first occurrences pass, repeats stay repeats."""
    message_ids = ["a", "b", "a", "c", "d", "b", "e", "f", "a"]
    window = Window(SIZE)
    first = repeats(window, message_ids)
    assert first == [False, False, True, False, False, True, False, False, True]
    assert repeats(window, message_ids)[-SIZE:] == first[-SIZE:]
    assert not any(repeats(window, ["g", "h"], len(message_ids)))


def test_old_events_are_forgotten():
    """Memory is bounded: after twice SIZE other events, a messageId may be used again."""
    window = Window(SIZE)
    repeats(window, ["a", *distinct(2 * SIZE)])
    assert not window.repeats("web", "a", 2 * SIZE + 1)


def test_without_a_window_nothing_is_a_repeat():
    """Size 0 turns deduplication off."""
    assert repeats(Window(0), ["a", "a"]) == [False, False]


def test_message_ids_are_unique_per_source():
    """Two sources may use the same messageId."""
    window = Window(SIZE)
    assert not window.repeats("web", "a", 0)
    assert not window.repeats("server", "a", 1)
    assert window.repeats("server", "a", 2)


@given(st.integers(1, 5), st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 3)), max_size=60))
def test_repeats_are_exactly_known_within_the_window(size: int, steps: list[tuple[str, int]]):
    """Events may be delivered again from a little earlier at any time, as after a rebalance.

    A repeat always has an equal event at a lower offset; an equal event among the last `size` offsets is always found.
    """
    window = Window(size)
    message_ids: list[str] = []

    def deliver(offset: int) -> None:
        message_id = message_ids[offset]
        repeated = window.repeats("web", message_id, offset)
        if repeated:
            assert message_id in message_ids[:offset]
        else:
            assert message_id not in message_ids[max(0, offset - size) : offset]

    for message_id, back in steps:
        message_ids.append(message_id)
        deliver(len(message_ids) - 1)
        for offset in range(max(0, len(message_ids) - min(back, size)), len(message_ids)):
            deliver(offset)
