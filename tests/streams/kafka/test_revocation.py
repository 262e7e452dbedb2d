"""Runs of a revoked partition: late results have no effect, and the next owner decides what is committed."""

import pytest

from streams.kafka.settings import Broker
from streams.topics import Topics
from tests.streams.kafka.test_transport import Agent, fill
from tests.support.reading import committed, until

pytestmark = [pytest.mark.anyio, pytest.mark.kafka]

PATIENCE = 60


async def test_runs_of_a_revoked_partition_neither_hold_nor_move_a_later_commit(broker: Broker, topics: Topics):
    """After a rebalance that did not wait for it, an old run may hang or finish: only the new runs are committed."""
    broker = broker.model_copy(update={"rebalance_timeout": 6})
    await fill(broker, topics, 30)
    first = Agent(broker, topics, grace=3)
    first.finishes = False
    async with first.running():
        await until(lambda: len({run.tp for run in first.runs}) == 3, PATIENCE)
        old = first.runs.copy()
        hung, late = old[0], old[1]
        second = Agent(broker, topics, group=first.group, grace=3)
        second.finishes = False
        async with second.running():
            await until(lambda: bool(second.runs), PATIENCE)
            late.finish()
        await until(lambda: {run.tp for run in first.runs[len(old) :]} == {run.tp for run in old}, PATIENCE)
        again = {run.tp: run for run in first.runs[len(old) :]}
        assert all(run.records[0].offset == 0 for run in again.values())
        late.finish()
        await first.pipeline.app.consumer.commit()
        assert set((await committed(broker, first.group, topics.events)).values()) <= {None, 0}
        for run in first.runs[len(old) :]:
            run.finish()
        await until(lambda: first.pipeline.progress.held == 0, PATIENCE)
        hung.finish()
    assert await committed(broker, first.group, topics.events) == dict.fromkeys(range(3), 10)
