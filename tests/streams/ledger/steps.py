"""Generate records of a ledger, and compare a store with the oracle."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import strategies as st

from streams.ledger import bit_sets
from streams.ledger.clickhouse_store import ClickHouseStore
from streams.ledger.sqlite_store import SqliteStore
from streams.ledger.store import READ, Store
from streams.records.event import Origin
from streams.records.outcomes import OutcomeDetail, OutcomeInterval
from streams.records.run_header import hash_id
from tests.streams.ledger.making import DAY_MS, START_MS, TOPICS, Oracle, Records, counts_of
from tests.support import fuzzing
from tests.support.clickhouse import database_for

MakeStore = Callable[[Path, bytes | None], Store]

STORES: Mapping[str, MakeStore] = {
    "sqlite": lambda folder, user_key: SqliteStore(folder, user_key, 7),
    "clickhouse": lambda folder, user_key: ClickHouseStore(database_for(folder), user_key, 7),
}
EVERY_STORE = [
    pytest.param(make, id=name, marks=[pytest.mark.clickhouse] if name == "clickhouse" else [])
    for name, make in STORES.items()
]
"""Every store; the tests in test_store.py run with each."""

KEY = b"key"
MEMORY = next((folder for folder in ["/dev/shm"] if Path(folder).is_dir()), None)  # noqa: S108  # as below
"""A folder where syncing a file takes no time."""
EDGE = bit_sets.BLOCK_OFFSETS
OFFSETS = st.integers(EDGE - 12, EDGE + 12)
SPANS = st.lists(
    st.builds(
        lambda integration, rule, outcome, first, length, detail: OutcomeInterval(
            integration, rule, outcome, first, first + length, detail
        ),
        st.sampled_from(["ga4", "meta"]),
        st.sampled_from(["", "r"]),
        st.sampled_from(["forwarded", "delivered", "dead", "filtered", "consent"]),
        OFFSETS,
        st.integers(0, 20),
        st.sampled_from(["", "ads"]),
    ),
    max_size=3,
)
NAMED = st.lists(
    st.builds(
        OutcomeDetail,
        st.sampled_from(["ga4", "meta"]),
        st.sampled_from(["", "r"]),
        st.sampled_from(["dead", "filtered", "noted"]),
        OFFSETS,
        st.sampled_from(["status", "bot"]),
        st.just("detail"),
    ),
    max_size=2,
)
TIMES = st.integers(0, 3).map(lambda day: START_MS + day * DAY_MS)
PARTITIONS = st.integers(0, 1)
RULES = st.sampled_from(["v1", "v2"])
NAMES = st.sampled_from([("Order",), ("A", "B"), ("B", "C", "A")])
DETAILS = st.sampled_from(["a@b.example", "invalid", "7 too long"])
STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("run"), PARTITIONS, st.sets(OFFSETS, min_size=1, max_size=9), SPANS, NAMED, RULES, NAMES, TIMES
        ),
        st.tuples(st.just("outcomes"), PARTITIONS, SPANS, NAMED, RULES, TIMES),
        st.tuples(
            st.just("rejected"), PARTITIONS, st.one_of(st.none(), OFFSETS), st.sampled_from(["json", "size"]), TIMES
        ),
        st.tuples(st.just("dead"), PARTITIONS, OFFSETS, DETAILS, TIMES),
        st.tuples(st.just("handled"), PARTITIONS, st.lists(st.integers(0, 5), max_size=3), TIMES),
    ),
    max_size=14,
)


def examples(make_store: MakeStore) -> int:
    """Return the number of examples of a generated test; fewer for ClickHouse, whose statements take milliseconds."""
    return fuzzing.examples(30) if make_store is STORES["sqlite"] else fuzzing.examples(4)


def make(steps: list, records: Records | None = None) -> Records:
    """Make the records of generated steps, or add them to others."""
    records = records or Records()
    for kind, partition, *rest in steps:
        if kind == "run":
            offsets, spans, named, rules, names, at = rest
            records.run(partition, sorted(offsets), spans, named, rules=rules, names=names, at=at)
        elif kind == "outcomes":
            spans, named, rules, at = rest
            records.outcomes(partition, spans, named, rules=rules, at=at)
        elif kind == "rejected":
            offset, reason, at = rest
            records.rejected(partition, offset, reason, at=at)
        elif kind == "dead":
            offset, detail, at = rest
            records.dead(partition, offset, "ga4", "r", detail=detail, at=at)
        else:
            offsets, at = rest
            records.handled(partition, offsets, at=at)
    return records


def check(store: Store, oracle: Oracle) -> None:
    """Compare all results of a store with the oracle."""
    for step in (60, 3600, 86400):
        assert counts_of(store, step) == oracle.counts(step)
    for name, places in oracle.ids.items():
        assert sorted(store.find_id(hash_id(name))) == sorted(places)
    for name, places in oracle.users.items():
        assert sorted(store.find_user(hash_id(name))) == sorted(places)
    _check_groups(store, oracle)
    found: dict[Origin, set] = {}
    kinds: dict[Origin, tuple] = {}
    for topic in (TOPICS.events, TOPICS.rejected):
        for partition in (0, 1):
            numbers = []
            for block in store.blocks(topic, partition, 0, 2**40):
                numbers.append(block.number)
                for combo, bits in block.outcomes.items():
                    for offset in bit_sets.offsets(block.number, bits):
                        found.setdefault(Origin(topic, partition, offset), set()).add(combo)
                for kind, bits in block.kinds.items():
                    for offset in bit_sets.offsets(block.number, bits):
                        assert Origin(topic, partition, offset) not in kinds
                        kinds[Origin(topic, partition, offset)] = kind
            assert numbers == sorted(set(numbers))
    assert kinds == oracle.kinds
    assert found == oracle.outcomes
    _check_partitions(store, oracle)


def _check_partitions(store: Store, oracle: Oracle) -> None:
    reads: dict[int, list[int]] = {}
    for place, combos in oracle.outcomes.items():
        if any(combo.outcome == READ for combo in combos):
            reads.setdefault(place.partition, []).append(place.offset)
    assert store.partitions() == {
        (TOPICS.events, partition): (min(offsets), max(offsets)) for partition, offsets in reads.items()
    }


def _check_groups(store: Store, oracle: Oracle) -> None:
    groups = {group.key: group for group in store.dead_groups(0)}
    assert {key: group[1:6] for key, group in groups.items()} == oracle.dead_groups()
    assert all(len(group.newest) == min(5, group.open) for group in groups.values())
