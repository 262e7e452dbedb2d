"""Map digests to numbers in few bytes: Python's dict needs about 200 per entry."""

DIGEST_BYTES = 12
"""Bytes of a digest: 96 bits, so that two of a billion are the same with a probability of 10^-11."""

NUMBER_BYTES = 6
ENTRY_BYTES = DIGEST_BYTES + NUMBER_BYTES

BUCKET_ENTRIES = 64
"""Mean number of entries per bucket, if a table has as many entries as expected."""


class DigestTable:
    """Maps digests of DIGEST_BYTES to numbers below 2^48, at about 22 bytes per entry.

    Entries are in buckets by the first bytes of their digests, one after the other in a byte array that is searched as
    a whole. With more entries than `expected` the search takes longer.
    """

    __slots__ = ("_buckets", "_length")

    def __init__(self, expected: int) -> None:
        self._buckets: list[bytearray | None] = [None] * max(1, expected // BUCKET_ENTRIES)
        self._length = 0

    def get(self, digest: bytes) -> int | None:
        """Return the number of a digest, or None."""
        bucket = self._buckets[self._bucket_of(digest)]
        at = _find(bucket, digest) if bucket is not None else -1
        return None if bucket is None or at < 0 else int.from_bytes(bucket[at + DIGEST_BYTES : at + ENTRY_BYTES])

    def add(self, digest: bytes, number: int = 0) -> None:
        """Set the number of a digest that the table does not have."""
        place = self._bucket_of(digest)
        bucket = self._buckets[place]
        if bucket is None:
            bucket = self._buckets[place] = bytearray()
        bucket += digest + number.to_bytes(NUMBER_BYTES)
        self._length += 1

    def discard(self, digest: bytes) -> None:
        """Remove a digest if the table has it."""
        bucket = self._buckets[self._bucket_of(digest)]
        if bucket is not None and (at := _find(bucket, digest)) >= 0:
            del bucket[at : at + ENTRY_BYTES]
            self._length -= 1

    def __contains__(self, digest: bytes) -> bool:
        return self.get(digest) is not None

    def __len__(self) -> int:
        return self._length

    def _bucket_of(self, digest: bytes) -> int:
        return int.from_bytes(digest[:4]) % len(self._buckets)


def _find(bucket: bytearray, digest: bytes) -> int:
    """Return where the entry of a digest begins, or -1; the bytes of a digest may also occur across entries."""
    at = bucket.find(digest)
    while at > 0 and at % ENTRY_BYTES:
        at = bucket.find(digest, at + 1)
    return at
