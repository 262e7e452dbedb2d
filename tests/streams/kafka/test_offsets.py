from dataclasses import dataclass

import pytest

from streams.kafka.offsets import OffsetTracker, RecordBatch

pytestmark = pytest.mark.anyio
TP = ("events", 0)


@dataclass
class Record:
    offset: int
    value: bytes = b"x" * 100
    key: bytes | None = None


def open_run(progress: OffsetTracker, first: int, last: int) -> RecordBatch:
    run = progress.open(TP, [Record(offset) for offset in range(first, last + 1)])
    assert run.begin()
    return run


async def test_what_finishes_behind_an_unfinished_head_is_not_committed():
    """A run that finishes before its predecessor moves nothing; the head then moves both."""
    progress = OffsetTracker()
    head, tail = open_run(progress, 0, 9), open_run(progress, 10, 19)
    tail.finish()
    assert progress.committable(TP) == 0
    head.finish()
    assert progress.committable(TP) == 20


async def test_a_fetched_run_holds_the_commit_before_it_is_begun():
    """A run that was handed out and never taken up is not committed past."""
    progress = OffsetTracker()
    progress.open(TP, [Record(5)])
    open_run(progress, 6, 7).finish()
    assert progress.committable(TP) == 5


async def test_records_finished_out_of_order_commit_up_to_the_lowest_unfinished():
    """Within a run the committable offset is the first unfinished record's."""
    progress = OffsetTracker()
    run = open_run(progress, 100, 104)
    for index, expected in ((1, 100), (0, 102), (4, 102), (2, 103), (3, 105)):
        run.finish_record(index)
        assert progress.committable(TP) == expected
    assert run.finished


async def test_a_record_finished_twice_counts_once():
    """A second finish of a record does not finish the run in another's place."""
    progress = OffsetTracker()
    run = open_run(progress, 0, 1)
    run.finish_record(0)
    run.finish_record(0)
    assert not run.finished


async def test_a_run_of_an_older_generation_changes_nothing():
    """Finishing a run whose partition went away neither commits nor gives bytes back twice."""
    progress = OffsetTracker()
    old = open_run(progress, 0, 9)
    unbegun = progress.open(TP, [Record(10)])
    progress.drop([TP])
    assert progress.held == 0
    new = open_run(progress, 0, 4)
    old.finish()
    assert progress.committable(TP) == 0
    assert progress.held == new.size
    assert not unbegun.begin()


async def test_the_budget_is_full_until_a_run_finishes():
    """Bytes of unfinished runs count against the budget, and come back when a run finishes."""
    progress = OffsetTracker(budget=1000)
    run = open_run(progress, 0, 9)
    assert not await progress.wait_for_room(0.01)
    run.finish()
    assert await progress.wait_for_room(0.01)


async def test_settled_means_that_no_begun_run_is_open():
    """Runs that nobody has begun do not hold up a rebalance."""
    progress = OffsetTracker()
    run = open_run(progress, 0, 1)
    progress.open(TP, [Record(2)])
    assert not await progress.wait_until_settled(0.01)
    run.finish()
    assert await progress.wait_until_settled(0.01)
