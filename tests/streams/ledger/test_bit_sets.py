"""The bits of blocks represent exactly the added offsets."""

from hypothesis import given
from hypothesis import strategies as st

from streams.ledger import bit_sets
from streams.ledger.bit_sets import BLOCK_OFFSETS, BitSets


@given(st.lists(st.tuples(st.integers(0, 3 * BLOCK_OFFSETS), st.integers(0, 2 * BLOCK_OFFSETS))))
def test_offsets_come_back(spans: list[tuple[int, int]]):
    """Through blocks, their encoded form and spans."""
    sets = BitSets()
    expected: set[int] = set()
    for first, length in spans:
        sets.add(first, first + length)
        expected.update(range(first, first + length + 1))
    found: set[int] = set()
    for block, bits in sets.blocks():
        read = bit_sets.decode(bit_sets.encode(bits))
        assert read == bits
        found.update(bit_sets.offsets(block, read))
        assert len(bit_sets.encode(bits)) <= BLOCK_OFFSETS // 8 + 1
    assert found == expected


@given(st.integers(0, 5), st.integers(0, 6 * BLOCK_OFFSETS), st.integers(0, 6 * BLOCK_OFFSETS))
def test_between_is_a_range_cut_to_a_block(block: int, first: int, end: int):
    """A range of offsets covers exactly its part of a block."""
    start = block * BLOCK_OFFSETS
    expected = set(range(max(first, start), min(end, start + BLOCK_OFFSETS)))
    assert set(bit_sets.offsets(block, bit_sets.between(block, first, end))) == expected


def test_spans_that_touch_are_joined():
    """Also over the edge of two blocks."""
    assert bit_sets.joined([(0, 4095), (4096, 4097), (4099, 4100)]) == [(0, 4097), (4099, 4100)]
