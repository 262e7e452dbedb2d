import asyncio
from collections import Counter
from itertools import accumulate
from random import Random

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import OffsetAndMetadata
from hypothesis import given
from hypothesis import strategies as st

from streams.kafka.commit_metadata import CommitBudget, decode_finished, encode_finished, merge_ranges
from streams.kafka.offsets import OffsetTracker, RecordBatch
from streams.kafka.settings import Broker
from streams.topics import Topics
from tests.streams.kafka.test_offsets import TP, Record, open_run
from tests.streams.kafka.test_transport import Agent, fill
from tests.support.reading import committed, until

WAIT = 60


def ranges_of(committed: int, lengths: list[int]) -> list[tuple[int, int]]:
    """Return disjoint ranges from alternating lengths of gaps and ranges."""
    places = [committed + place for place in accumulate(lengths)]
    return list(zip(places[::2], places[1::2], strict=False))


@given(st.integers(0, 1 << 60), st.lists(st.integers(1, 1 << 20), max_size=40), st.integers(9, 4096))
def test_metadata_returns_the_ranges_that_fit(committed: int, lengths: list[int], limit: int):
    """Decoded ranges are a prefix of the encoded ones, complete if reported so, and never over the limit."""
    ranges = ranges_of(committed, lengths)
    text, whole = encode_finished(committed, ranges, limit)
    read = decode_finished(committed, text)
    assert len(text) <= limit
    assert read == ranges[: len(read)]
    assert whole == (read == ranges)


@pytest.mark.parametrize(
    "text",
    [None, "", "x", "turnout1", "turnout1:!", "turnout1:gA==", "turnout1://///////////w==", "turnout2:AQE=", "ü"],
)
def test_unreadable_metadata_counts_as_empty(text: str | None):
    """Metadata that another program wrote, or that was cut off, skips nothing."""
    assert decode_finished(5, text) == []


def test_20000_offsets_with_a_tenth_unfinished_at_random_fit():
    """The usual worst case of one partition fits into Kafka's limit."""
    chance = Random(7)
    done = [chance.random() < 0.9 for _ in range(20_000)]
    ranges = merge_ranges((offset, offset + 1) for offset, is_done in enumerate(done) if is_done)
    text, whole = encode_finished(0, ranges[:1100], 4096)
    assert whole
    assert len(text) < 3100


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=8), min_size=1, max_size=5))
def test_finished_records_are_those_above_the_committed_offset(batches: list[list[bool]]):
    """For any order of finishing, committed offset and ranges together name exactly the finished records."""
    progress = OffsetTracker()
    first = 10
    runs: list[RecordBatch] = []
    for flags in batches:
        runs.append(open_run(progress, first, first + len(flags) - 1))
        first += len(flags)
    finished = set()
    for run, flags in zip(runs, batches, strict=True):
        for index, flag in enumerate(flags):
            if flag:
                finished.add(run.records[index].offset)
                run.finish_record(index)
    at = progress.committable(TP)
    assert at is not None
    told = {offset for start, end in progress.finished_above(TP, at) for offset in range(start, end)}
    assert {*range(10, at), *told} == finished
    again = OffsetTracker()
    again.restore(TP, decode_finished(at, encode_finished(at, progress.finished_above(TP, at), 4096)[0]))
    assert again.finished_above(TP, at) == progress.finished_above(TP, at)
    left = again.without_finished(TP, [Record(offset) for offset in range(at, first)])
    assert {record.offset for record in left} == {*range(10, first)} - finished
    if left:
        again.open(TP, left, first)
    else:
        again.skip(TP, first)
    assert again.committable(TP) == min({*range(10, first)} - finished, default=first)
    assert again.finished_above(TP, at) == progress.finished_above(TP, at)


def test_budget_delays_all_partitions_alike():
    """Bytes beyond the budget delay the next commit of each partition, and an idle time is not saved up."""
    budget = CommitBudget(1_000)
    assert [budget.take("x" * 300, now) for now in (0.0, 0.0, 10.0)] == [0.5, 1.0, 10.5]


class Handpicked(Agent):
    """An agent that finishes only the records that `passes` allows."""

    def __init__(self, *args, passes=lambda _number: True, **kwargs):
        super().__init__(*args, grace=3, **kwargs)
        self.passes = passes

    async def work(self, run: RecordBatch) -> None:
        self.runs.append(run)
        for index, record in enumerate(run.records):
            self.seen[int(record.value)] += 1
            if self.passes(int(record.value)):
                run.finish_record(index)


async def stored(broker: Broker, group: str, topic: str) -> dict[int, OffsetAndMetadata]:
    """Return the commits of a topic's partitions, with metadata."""
    consumer = AIOKafkaConsumer(**broker.consumer(), group_id=group, enable_auto_commit=False)
    await consumer.start()
    parts = [TopicPartition(topic, number) for number in range(3)]
    try:
        found = await consumer._coordinator.fetch_committed_offsets(parts)
    finally:
        await consumer.stop()
    return {part.partition: OffsetAndMetadata(*each) for part, each in found.items()}


@pytest.mark.kafka
@pytest.mark.anyio
class TestOnKafka:
    async def test_a_stop_repeats_only_unfinished_records(self, broker: Broker, topics: Topics):
        """After two stops in order with scattered failures the next worker gets exactly the unfinished records."""
        await fill(broker, topics, 3000)
        async with Handpicked(broker, topics, passes=lambda number: number % 70 != 0).running() as first:
            await until(lambda: first.seen.total() == 3000, WAIT)
        failing = {number for number in range(3000) if number % 70 == 0}
        second = Handpicked(broker, topics, group=first.group, passes=lambda number: number % 140 != 0)
        async with second.running():
            await until(lambda: len(second.seen) >= len(failing), WAIT)
        assert second.seen == Counter(failing)
        async with Handpicked(broker, topics, group=first.group).running() as third:
            await until(lambda: len(third.seen) >= len(failing) // 2, WAIT)
        assert third.seen == Counter({number for number in failing if number % 140 == 0})
        assert await committed(broker, first.group, topics.events) == {0: 1000, 1: 1000, 2: 1000}
        assert all(not each.metadata for each in (await stored(broker, first.group, topics.events)).values())

    async def test_a_join_repeats_only_unfinished_records(self, broker: Broker, topics: Topics):
        """A worker that joins gets none of the records that were finished above a failing one."""
        await fill(broker, topics, 3000)
        first = Handpicked(broker, topics, passes=lambda number: number > 2)
        async with first.running():
            await until(lambda: first.seen.total() == 3000, WAIT)
            second = Handpicked(broker, topics, group=first.group, passes=lambda number: number > 2)
            async with second.running():
                await until(lambda: bool(second.seen) and first.seen.total() + second.seen.total() >= 3003, WAIT)
                assert set(second.seen) <= {0, 1, 2}
        assert (first.seen + second.seen).total() == sum(
            (first.seen + second.seen)[number] for number in range(3)
        ) + 2997

    async def test_metadata_is_written_while_the_committed_offset_stands_still(self, broker: Broker, topics: Topics):
        """A worker that is killed repeats little, because the ranges are committed although the offset is not."""
        await fill(broker, topics, 300)
        agent = Handpicked(broker, topics, passes=lambda number: number > 2)
        async with agent.running():
            deadline = asyncio.get_running_loop().time() + WAIT
            while True:
                found = await stored(broker, agent.group, topics.events)
                if len(found) == 3 and all(decode_finished(0, each.metadata) == [(1, 100)] for each in found.values()):
                    break
                assert asyncio.get_running_loop().time() < deadline, found

    async def test_reset_group_gets_everything_again(self, broker: Broker, topics: Topics):
        """An offset that Kafka's tools set has no metadata, so all records from there on are delivered again."""
        await fill(broker, topics, 300)
        async with Handpicked(broker, topics, passes=lambda number: number > 2).running() as first:
            await until(lambda: first.seen.total() == 300, WAIT)
        tool = AIOKafkaConsumer(**broker.consumer(), group_id=first.group, enable_auto_commit=False)
        await tool.start()
        tool.assign([TopicPartition(topics.events, number) for number in range(3)])
        await tool.commit({TopicPartition(topics.events, number): OffsetAndMetadata(0, "") for number in range(3)})
        await tool.stop()
        async with Handpicked(broker, topics, group=first.group).running() as again:
            await until(lambda: len(again.seen) == 300, WAIT)
        assert again.seen == first.seen

    async def test_smaller_limit_of_kafka_costs_the_metadata_not_the_commit(
        self, broker: Broker, topics: Topics, monkeypatch: pytest.MonkeyPatch
    ):
        """If Kafka refuses the metadata, the offsets are committed without it, and less is written from then on."""
        from streams.kafka import transport

        monkeypatch.setattr(transport, "MAX_METADATA_CHARACTERS", 3 * 4096)
        await fill(broker, topics, 15_000)
        agent = Handpicked(broker, topics, passes=lambda number: number // 3 % 2)
        async with agent.running():
            await until(lambda: agent.seen.total() == 15_000, WAIT)
            await until(lambda: agent.pipeline.app.consumer._metadata_limit < 3 * 4096, WAIT)
        assert agent.failed == []
        found = await stored(broker, agent.group, topics.events)
        assert any(decode_finished(each.offset, each.metadata) for each in found.values())
