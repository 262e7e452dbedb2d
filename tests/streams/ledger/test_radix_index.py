"""The index finds every entry while it merges and splits, and keeps its rows few and large."""

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.ledger import radix_index
from streams.ledger.radix_index import FAN, RadixIndex


def make(connection: sqlite3.Connection) -> RadixIndex:
    radix_index.create(connection, "ids")
    return RadixIndex(connection, "ids")


def number(value: int) -> bytes:
    return value.to_bytes(8, "big")


KEYS = st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 3), st.integers(2**64 - 3, 2**64 - 1))


@given(st.lists(st.lists(st.tuples(KEYS, st.integers(0, 5)), max_size=6), max_size=60), st.sampled_from([1, 16 * 8]))
def test_every_entry_is_found_and_no_other(commits: list[list[tuple[int, int]]], split: int):
    """Whatever is merged, a key has all of its values, also after the index was opened again."""
    connection = sqlite3.connect(":memory:")
    index = make(connection)
    expected: dict[int, set[bytes]] = {}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(radix_index, "SPLIT_BYTES", split)
        for at, commit in enumerate(commits):
            index.add(number(key) + number(value) for key, value in commit)
            if at % 7 == 6:
                index = RadixIndex(connection, "ids")
            for key, value in commit:
                expected.setdefault(key, set()).add(number(value))
    for key, values in expected.items():
        assert set(radix_index.find(connection, "ids", number(key))) == values
        if key + 1 not in expected and key < 2**64 - 1:
            assert not list(radix_index.find(connection, "ids", number(key + 1)))


def test_small_commits_do_not_leave_small_rows():
    """Rows of one entry are joined, so that a look-up reads few rows."""
    connection = sqlite3.connect(":memory:")
    index = make(connection)
    for value in range(1000):
        index.add([number(value << 50) + number(value)])
    assert connection.execute("SELECT count(*) FROM ids").fetchone()[0] <= 2 * FAN


def test_merges_that_wait_are_done_later(monkeypatch: pytest.MonkeyPatch):
    """A commit makes a bounded number of merges, and later commits make the others."""
    monkeypatch.setattr(radix_index, "SPLIT_BYTES", 1)
    connection = sqlite3.connect(":memory:")
    index = make(connection)
    for value in range(16**3):
        index.add([number((value * 16 + nibble) << 48) + number(value) for nibble in range(16)])
    for _ in range(500):
        index.add([])
    rows = connection.execute("SELECT level, bucket, count(*) FROM ids GROUP BY level, bucket").fetchall()
    assert max(count for _, _, count in rows) < FAN
    assert max(level for level, _, _ in rows) >= 2
