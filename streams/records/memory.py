"""Encode, encrypt and decode the records of the memory of visitors.

Keys have digests of IDs, and entries are encrypted, so that nobody can read them without the secret.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from os import urandom
from typing import NamedTuple

import orjson

from streams.records.format import MEMORY_VERSION, VERSION_HEADER, Headers, RecordError, decode_object

MAX_ENTRY_BYTES = 4096
"""Maximum bytes of an entry before encryption; the groups that are oldest are dropped."""

MAX_VISITORS = 8
"""Maximum visitors that an entry is linked to; the oldest are dropped."""

DIGEST_BYTES = 16
NONCE_BYTES = 12

MEMORY_END = b"end"
"""The key of the record that a router writes before it reads a partition, so that there is a last record to reach."""

Value = str | int

Values = Mapping[str, Value]
"""The remembered values of a group, by their path in the event: `integrations.meta.fbp`."""


class MemoryKind(StrEnum):
    """The kind of a record, which is the beginning of its key."""

    ENTRY = "entry"
    """The values of one ID. Written by the router of the ID's partition."""
    COPY = "copy"
    """An anonymous visitor's entry, in the partition of a user that the visitor became."""
    LINK = "link"
    """A request to copy an anonymous visitor's entry to another partition, now and after each change."""
    FORGET = "forget"
    """A request to delete an ID's entry."""


class MemoryKey(NamedTuple):
    """The key of a record. `target` is the partition that a link names."""

    kind: MemoryKind
    digest: bytes
    target: int = -1

    def encode(self) -> bytes:
        """Return the record's key."""
        key = f"{self.kind}:{self.digest.hex()}"
        return (f"{key}:{self.target}" if self.kind is MemoryKind.LINK else key).encode()

    @classmethod
    def decode(cls, key: bytes | None) -> "MemoryKey":
        """Read a record's key; raises RecordError."""
        try:
            kind, digest, *target = (key or b"").decode().split(":")
            return cls(MemoryKind(kind), bytes.fromhex(digest), *map(int, target))
        except (ValueError, TypeError) as error:
            raise RecordError("the key of a record of the memory is invalid") from error


def memory_headers() -> Headers:
    """Return the headers of every record with a value."""
    return [(VERSION_HEADER, b"%d" % MEMORY_VERSION)]


MEMORY_MARK = orjson.dumps({"v": MEMORY_VERSION})
"""The value of a request to delete an entry, and of the record MEMORY_END."""


def encode_link(*, copied: bool) -> bytes:
    """Return a link's value; it is `copied` once the entry is in the other partition."""
    return orjson.dumps({"v": MEMORY_VERSION, "copied": copied})


def is_copied(value: bytes) -> bool:
    """Read a link's value; raises RecordError and NewerFormatError."""
    return decode_object(value, MEMORY_VERSION).get("copied") is True


class Remembered(NamedTuple):
    """Values that were seen together, and when: the time of the event's record, in seconds since 1970."""

    values: Values
    time: int


class Visitor(NamedTuple):
    """An anonymous visitor who became the user: digest in hex, partition, and the time of the linking event."""

    digest: str
    partition: int
    time: int


@dataclass(slots=True)
class MemoryEntry:
    """The entry of one ID: the last values of each group in its events, and the visitors that it is linked to."""

    groups: dict[str, Remembered] = field(default_factory=dict)
    visitors: list[Visitor] = field(default_factory=list)

    def encode(self) -> bytes:
        """Return JSON of at most MAX_ENTRY_BYTES, without the oldest groups if they do not fit."""
        self.visitors = self.visitors[-MAX_VISITORS:]
        while True:
            groups = {name: tuple(remembered) for name, remembered in self.groups.items()}
            data = orjson.dumps({"groups": groups, "visitors": list(map(tuple, self.visitors))})
            if len(data) <= MAX_ENTRY_BYTES or not self.groups:
                return data
            del self.groups[min(self.groups, key=lambda name: self.groups[name].time)]

    @classmethod
    def decode(cls, data: bytes) -> "MemoryEntry":
        """Read the JSON of an entry; raises RecordError."""
        try:
            read = orjson.loads(data)
            groups = {name: Remembered(*remembered) for name, remembered in read["groups"].items()}
            return cls(groups, [Visitor(*visitor) for visitor in read["visitors"]])
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise RecordError("an entry of the memory is invalid") from error


class MemoryCipher:
    """Makes digests of IDs, and encrypts entries, with keys that are derived from one secret.

    An entry is encrypted with AES-256-GCM and a random nonce. The digest of its ID is authenticated with it, so that
    nobody can exchange the entries of two users.
    """

    def __init__(self, secret: str) -> None:
        # Imported here, since it takes 30 ms, and most installations have no memory.
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        encoded = secret.encode(errors="surrogatepass")
        self._damaged = (InvalidTag, ValueError)
        self._digest_key = blake2b(encoded, person=b"turnout-mem-ids").digest()
        self._cipher = AESGCM(blake2b(encoded, digest_size=32, person=b"turnout-mem-aes").digest())

    def digest(self, user: str) -> bytes:
        """Return the keyed digest (BLAKE2b) of an ID."""
        return blake2b(user.encode(errors="surrogatepass"), key=self._digest_key, digest_size=DIGEST_BYTES).digest()

    def encrypt(self, digest: bytes, entry: MemoryEntry) -> bytes:
        """Return the value of the record of an ID."""
        nonce = urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, entry.encode(), digest)

    def decrypt(self, digest: bytes, value: bytes) -> MemoryEntry | None:
        """Return the entry in a record's value; None if another secret encrypted it, or it is damaged."""
        try:
            return MemoryEntry.decode(self._cipher.decrypt(value[:NONCE_BYTES], value[NONCE_BYTES:], digest))
        except self._damaged:
            return None
