"""Store sets of offsets as bits, in blocks of 4,096: an integer in memory, a short blob on disk."""

import zlib
from collections.abc import Iterable, Iterator

BLOCK_BITS = 12
BLOCK_OFFSETS = 1 << BLOCK_BITS
BLOCK_BYTES = BLOCK_OFFSETS // 8
FULL = (1 << BLOCK_OFFSETS) - 1

_RAW, _DEFLATED = b"\0", b"\1"
_SHORT = 9
"""Offsets up to which setting bits one by one is faster than shifting a large integer."""


class BitSets:
    """The bits of one partition, collected block by block."""

    __slots__ = ("_blocks",)

    def __init__(self) -> None:
        self._blocks: dict[int, bytearray] = {}

    def add(self, first: int, last: int) -> None:
        """Add the offsets from `first` to `last`, both included."""
        while first <= last:
            block = first >> BLOCK_BITS
            bits = self._blocks.get(block)
            if bits is None:
                bits = self._blocks[block] = bytearray(BLOCK_BYTES)
            low = first & (BLOCK_OFFSETS - 1)
            high = min(last - (block << BLOCK_BITS), BLOCK_OFFSETS - 1)
            if high - low < _SHORT:
                for offset in range(low, high + 1):
                    bits[offset >> 3] |= 1 << (offset & 7)
            else:
                number = int.from_bytes(bits, "little") | ((1 << (high - low + 1)) - 1) << low
                bits[:] = number.to_bytes(BLOCK_BYTES, "little")
            first = (block + 1) << BLOCK_BITS

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Return each block's number and bits."""
        return ((block, int.from_bytes(bits, "little")) for block, bits in self._blocks.items())


def encode(bits: int) -> bytes:
    """Encode the bits of a block, compressed if that is shorter."""
    raw = bits.to_bytes((bits.bit_length() + 7) // 8, "little")
    deflated = zlib.compress(raw, 1, wbits=-15)
    return _DEFLATED + deflated if len(deflated) < len(raw) else _RAW + raw


def decode(data: bytes) -> int:
    """Decode the bits of a block."""
    raw = zlib.decompress(data[1:], wbits=-15) if data[:1] == _DEFLATED else data[1:]
    return int.from_bytes(raw, "little")


def offsets(block: int, bits: int) -> Iterator[int]:
    """Return the offsets in a block, ascending."""
    return (offset for first, last in spans(block, bits) for offset in range(first, last + 1))


def spans(block: int, bits: int) -> Iterator[tuple[int, int]]:
    """Return the offsets in a block as closed intervals, ascending."""
    at = block << BLOCK_BITS
    while bits:
        zeros = (bits & -bits).bit_length() - 1
        bits >>= zeros
        ones = (~bits & (bits + 1)).bit_length() - 1
        bits >>= ones
        at += zeros
        yield at, at + ones - 1
        at += ones


def between(block: int, first: int, end: int) -> int:
    """Return the bits of a block for the offsets from `first` up to, not including, `end`."""
    start = block << BLOCK_BITS
    low, high = max(0, first - start), min(BLOCK_OFFSETS, end - start)
    return ((1 << (high - low)) - 1) << low if high > low else 0


def of(block: int, offset: int) -> int:
    """Return the bit of an offset in its block."""
    return 1 << (offset - (block << BLOCK_BITS))


def joined(parts: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join ascending closed intervals that touch."""
    found: list[tuple[int, int]] = []
    for first, last in parts:
        if found and found[-1][1] + 1 == first:
            found[-1] = found[-1][0], last
        else:
            found.append((first, last))
    return found
