"""A table of digests behaves like a dict, in at most 48 bytes per entry."""

import tracemalloc
from collections.abc import Callable
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.digest_table import DIGEST_BYTES, ENTRY_BYTES, DigestTable
from streams.routing.dedupe import Window
from streams.suppression.filter import SuppressedUsers

DIGESTS = st.integers(0, 5).map(lambda n: bytes([n % 3, n]) * (DIGEST_BYTES // 2))


@given(st.lists(st.tuples(st.sampled_from(["add", "discard"]), DIGESTS, st.integers(0, 2**48 - 1))))
def test_it_answers_as_a_dict(changes: list[tuple[str, bytes, int]]):
    """Whatever is added and removed, also with digests that repeat the bytes of others."""
    table, model = DigestTable(0), dict[bytes, int]()
    for change, digest, number in changes:
        if change == "discard":
            table.discard(digest)
            model.pop(digest, None)
        elif digest not in model:
            table.add(digest, number)
            model[digest] = number
        assert {each: table.get(each) for _, each, _ in changes} == {each: model.get(each) for _, each, _ in changes}
        assert len(table) == len(model)


def test_the_bytes_of_a_digest_across_entries_are_not_found():
    """Only whole entries count."""
    table = DigestTable(0)
    table.add(b"a" * DIGEST_BYTES, int.from_bytes(b"bbbbbb"))
    table.add(b"b" * DIGEST_BYTES)
    straddling = (b"a" * DIGEST_BYTES + b"bbbbbb")[ENTRY_BYTES - DIGEST_BYTES - 3 :][:DIGEST_BYTES]
    assert straddling not in table
    assert table.get(b"b" * DIGEST_BYTES) == 0


def fill_window(count: int) -> object:
    window = Window(count + 1)
    for number in range(count):
        assert not window.repeats("web", f"ajs-next-1767323045678-{number:032x}", number)
    assert window.repeats("web", f"ajs-next-1767323045678-{7:032x}", count)
    return window


def fill_users(count: int) -> object:
    users = SuppressedUsers()
    for number in range(count):
        users.take(sha256(b"%d" % number).hexdigest().encode(), b"{}")
    assert "7" in users
    assert len(users) == count
    return users


@pytest.mark.parametrize(("fill", "count"), [(fill_window, 20_000), (fill_users, 60_000)])
def test_a_memory_takes_at_most_48_bytes(fill: Callable[[int], object], count: int):
    """Per remembered messageId and per suppressed user."""
    tracemalloc.start()
    try:
        kept = fill(count)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used / count <= 48
    del kept
