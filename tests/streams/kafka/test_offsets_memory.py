"""The memory that a consumer's progress uses and frees."""

import asyncio
import gc
from dataclasses import dataclass
from typing import Any
from weakref import ref

import pytest

from streams.kafka.offsets import MemoryBudget, OffsetTracker

pytestmark = pytest.mark.anyio
TP = ("events", 0)
OTHER = ("events", 1)


@dataclass
class Record:
    offset: int
    value: bytes | None = b"x" * 100
    key: bytes | None = None


def records(first: int, count: int = 2) -> list[Record]:
    return [Record(offset) for offset in range(first, first + count)]


async def test_finished_runs_are_forgotten():
    """After any number of finished runs, none of their records is kept and the commit is at the end."""
    progress = OffsetTracker()
    kept: list[ref[Any]] = []
    for first in range(0, 1000, 2):
        fetched = records(first)
        kept += map(ref, fetched)
        progress.open(TP, fetched).finish()
    for first in range(1000, 2000, 2):
        fetched = records(first)
        kept += map(ref, fetched)
        run = progress.open(TP, fetched)
        for index in (1, 0):
            run.finish_record(index)
    del fetched, run
    gc.collect()
    assert not any(record() for record in kept)
    assert (progress.committable(TP), progress.held, progress.begun) == (2000, 0, 0)


async def test_finished_runs_are_forgotten_in_any_order():
    """Runs that finish behind an open one are kept until it finishes, and no longer."""
    progress = OffsetTracker()
    runs = [progress.open(TP, records(first)) for first in range(0, 20, 2)]
    kept = [ref(record) for run in runs for record in run.records]
    for run in reversed(runs):
        run.finish()
    del runs, run
    gc.collect()
    assert not any(record() for record in kept)
    assert progress.committable(TP) == 20


async def test_revoked_runs_are_forgotten():
    """Nothing of a revoked partition is kept, whether its runs were finished or not; other partitions keep theirs."""
    progress = OffsetTracker()
    other = progress.open(OTHER, records(7))
    kept: list[ref[Any]] = []
    for first in range(0, 20, 2):
        fetched = records(first)
        kept += map(ref, fetched)
        run = progress.open(TP, fetched)
        if first % 4:
            run.finish()
    del fetched, run
    progress.drop([TP])
    gc.collect()
    assert not any(record() for record in kept)
    assert progress.committable(TP) is None
    assert (progress.committable(OTHER), progress.held) == (7, other.size)


@pytest.mark.parametrize("record_by_record", [True, False])
async def test_a_revoked_run_never_moves_a_later_commit(record_by_record: bool):
    """Finished late, a revoked run changes neither the commit of the same partition, held again, nor the budget."""
    progress = OffsetTracker()
    old = progress.open(TP, records(0, 10))
    assert old.begin()
    progress.drop([TP])

    def finish_old() -> None:
        if record_by_record:
            for index in range(10):
                old.finish_record(index)
        else:
            old.finish()

    finish_old()
    assert progress.committable(TP) is None
    new = progress.open(TP, records(4, 10))
    assert new.begin()
    finish_old()
    assert (progress.committable(TP), progress.held, progress.begun) == (4, new.size, 1)
    new.finish()
    finish_old()
    assert (progress.committable(TP), progress.held) == (14, 0)


async def test_a_revoked_run_holds_no_later_commit():
    """A revoked run that never finishes does not hold up the same partition, held again."""
    progress = OffsetTracker()
    assert progress.open(TP, records(0, 10)).begin()
    progress.drop([TP])
    assert await progress.wait_until_settled(0)
    new = progress.open(TP, records(0, 10))
    assert new.begin()
    new.finish()
    assert progress.committable(TP) == 10


async def test_a_run_that_rests_holds_its_commit_but_no_room():
    """Records that wait for a time to come leave the budget to other partitions, once."""
    progress = OffsetTracker(budget=1000)
    resting = progress.open(TP, records(0, 10))
    assert not await progress.wait_for_room(0)
    resting.exclude_from_budget()
    resting.exclude_from_budget()
    assert progress.held == 0
    assert await progress.wait_for_room(0)
    assert progress.committable(TP) == 0
    resting.finish()
    assert (progress.committable(TP), progress.held) == (10, 0)


async def test_a_revoked_partition_has_no_commit():
    """What was finished before the revocation is not committed again when the partition is held again."""
    progress = OffsetTracker()
    progress.open(TP, records(0, 10)).finish()
    assert (progress.committable(TP), progress.partitions()) == (10, [TP])
    progress.drop([TP, OTHER])
    assert (progress.committable(TP), progress.partitions()) == (None, [])


@pytest.mark.parametrize("end", ["finish", "exclude", "revoke"])
async def test_who_waits_for_room_is_woken(end: str):
    """Room is noticed at once when a batch finishes, is excluded from the budget, or is revoked."""
    progress = OffsetTracker(budget=1000)
    run = progress.open(TP, records(0, 10))
    waiting = asyncio.create_task(progress.wait_for_room(60))
    await asyncio.sleep(0)
    {"finish": run.finish, "exclude": run.exclude_from_budget, "revoke": lambda: progress.drop([TP])}[end]()
    async with asyncio.timeout(30):
        assert await waiting


async def test_keys_and_records_without_values_count_against_the_budget():
    """Tombstones and long keys take memory too."""
    progress = OffsetTracker()
    progress.open(TP, [Record(0, value=None)])
    tombstone = progress.held
    assert tombstone > 0
    progress.open(OTHER, [Record(0, value=None, key=b"k" * 1000)])
    assert progress.held == 2 * tombstone + 1000


async def test_bytes_come_back_per_record():
    """A finished record leaves memory and makes room at once, also behind one that never finishes."""
    progress = OffsetTracker(budget=10_000)
    fetched = records(0, 10)
    kept = [ref(record) for record in fetched]
    run = progress.open(TP, fetched)
    del fetched
    whole = progress.held
    assert not await progress.wait_for_room(0)
    waiting = asyncio.create_task(progress.wait_for_room(60))
    await asyncio.sleep(0)
    for index in range(1, 9):
        run.finish_record(index)
    async with asyncio.timeout(30):
        assert await waiting
    gc.collect()
    assert [index for index, record in enumerate(kept) if record()] == [0, 9]
    assert progress.held == whole // 5
    assert progress.committable(TP) == 0


async def test_a_finished_batch_behind_an_open_one_leaves_memory():
    """The records of a batch that is finished as a whole are discarded before the ones before them finish."""
    progress = OffsetTracker()
    progress.open(TP, records(0))
    fetched = records(2)
    kept = ref(fetched[0])
    progress.open(TP, fetched).finish()
    del fetched
    gc.collect()
    assert kept() is None


async def test_pipelines_share_the_budget_of_their_process():
    """Each pipeline may hold an equal share, at most its own budget; a stopped pipeline's share is redistributed."""
    memory = MemoryBudget(100_000)
    pipelines = [OffsetTracker(80_000, memory) for _ in range(5)]
    assert {each.budget for each in pipelines} == {20_000}
    pipelines[0].open(TP, records(0, 10))
    assert not await pipelines[0].wait_for_room(0)
    assert await pipelines[1].wait_for_room(0)
    del pipelines[1:]
    gc.collect()
    assert pipelines[0].budget == 80_000
    assert await pipelines[0].wait_for_room(0)


async def test_records_that_are_given_back_use_no_memory():
    """Truncated and later batches leave the budget; finished records among them are skipped when fetched again."""
    progress = OffsetTracker()
    run = progress.open(TP, records(0, 10))
    later = progress.open(TP, records(10, 10))
    assert run.begin()
    later.finish_record(3)
    run.finish_record(0)
    size = progress.held
    run.truncate(4)
    assert later.dropped
    assert progress.held == size * 3 // 18
    for index in (1, 2, 3):
        run.finish_record(index)
    assert (progress.committable(TP), progress.held) == (4, 0)
    assert progress.finished_above(TP, 4) == [(13, 14)]
    again = progress.without_finished(TP, records(4, 16))
    assert [record.offset for record in again] == [*range(4, 13), *range(14, 20)]
    progress.open(TP, again, 20).finish()
    assert progress.committable(TP) == 20
