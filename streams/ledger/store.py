"""Define the protocol that every store of the ledger implements, and its data types.

A store holds no payload and no readable ID of a person. All data about an event is addressed by the event's
coordinates, its place: topic, partition and offset. The bodies of events stay in Kafka.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from streams.ledger.catalog import CatalogRow, EventSample
from streams.records.event import Origin
from streams.records.outcomes import LostDeliveries, Outcomes
from streams.records.run_header import Kind, RunHeader

Partition = tuple[str, int]
"""A topic and the number of a partition."""


MAX_GROUPS = 1000
"""Groups that are kept apart; messages come from vendors, so their number has no other bound."""

OTHER_MESSAGE = "(other)"
"""The message of dead letters whose group is beyond MAX_GROUPS."""

REASON_CHARACTERS = 64
"""Characters of a reason that are kept."""

NEWEST_LETTERS = 5
"""Dead letters of a group whose places are shown."""


class StoreError(RuntimeError):
    """The store cannot be used; the message is one line for people."""


class StoreInUseError(StoreError):
    """Another process writes to the store."""


class Run(NamedTuple):
    """A run of events that a router read, and the version of the rules that routed it."""

    topic: str
    partition: int
    rules: str
    header: RunHeader


class RejectedEvent(NamedTuple):
    """An event in the rejected topic.

    `place` is that of the event, or of the rejected record if the collector rejected the event. `id_hash` is NO_HASH if
    no messageId can be read. `kind` and `minute` are None if a run describes the event.
    """

    place: Origin
    reason: str
    id_hash: bytes
    user_hash: bytes
    kind: Kind | None
    minute: int


class LostEvents(NamedTuple):
    """Events that retention removed before a router read them; `minute` is that of the record of the loss."""

    topic: str
    partition: int
    first: int
    last: int
    minute: int


class LostForwards(NamedTuple):
    """Lost deliveries of events of one partition."""

    topic: str
    partition: int
    lost: LostDeliveries


class DeadLetterPlace(NamedTuple):
    """The coordinates of a dead letter in the dead topic, with the facts that need no payload."""

    place: Origin
    integration: str
    rule: str
    partition: int
    offset: int
    reason: str
    attempts: int
    status: int | None


class DeadGroupKey(NamedTuple):
    """The properties that the dead letters of a group share.

    `message` is the vendor's or the rule's message without the parts that differ between events and without personal
    data.
    """

    integration: str
    rule: str
    reason: str
    status: int | None
    message: str

    @property
    def id(self) -> str:
        """The group's ID, derived only from this key."""
        return hashlib.blake2b("\0".join(map(str, self)).encode(), digest_size=6).hexdigest()


class DeadGroup(NamedTuple):
    """Dead letters that share a key.

    `open` are those that were neither replayed nor dropped, and whose delivery did not succeed since; `total` counts
    all that Kafka has. `first` and `last` are the times of the first and last one in seconds since 1970. `hours` are
    numbers of dead letters by start of the hour, ascending. `newest` are partitions and offsets of the newest open dead
    letters in the dead topic.
    """

    key: DeadGroupKey
    open: int
    total: int
    first: int
    last: int
    hours: Mapping[int, int]
    newest: Sequence[tuple[int, int]]


class BuriedLetter(NamedTuple):
    """A dead letter with its group and its time in seconds since 1970."""

    place: DeadLetterPlace
    group: DeadGroupKey
    second: int


@dataclass(slots=True)
class LedgerBatch:
    """Records of the topics that the ledger reads, with the offsets after them.

    `time_ms` is the time of the newest record in milliseconds since 1970; it decides which day's file gets the data.
    """

    offsets: dict[Partition, int] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)
    outcomes: list[Outcomes] = field(default_factory=list)
    lost_events: list[LostEvents] = field(default_factory=list)
    lost_deliveries: list[LostForwards] = field(default_factory=list)
    rejected: list[RejectedEvent] = field(default_factory=list)
    dead: list[BuriedLetter] = field(default_factory=list)
    handled: list[tuple[int, int]] = field(default_factory=list)
    """Partitions and offsets of dead letters that were replayed or dropped."""
    samples: list[EventSample] = field(default_factory=list)
    """Names and types of some events, for the catalog. They have no offsets: a crash may lose them."""
    time_ms: int = 0


class Combo(NamedTuple):
    """An outcome as recorded: its stage, integration and rule, and the version of the rules.

    `outcome` is one of streams.records.outcomes.Outcome, FORWARDED, READ (the router read the event) or REJECTED.
    `reason` is a short code, or the categories of consent that were missing.
    """

    stage: str
    rules: str
    integration: str
    rule: str
    outcome: str
    reason: str


READ = "read"
REJECTED = "rejected"


class CountKey(NamedTuple):
    """The properties by which outcomes are counted, in addition to time and kind."""

    integration: str
    rule: str
    outcome: str
    reason: str


class Count(NamedTuple):
    """The number of events of one minute, hour or day, kind, integration, rule, outcome and reason.

    `time` is the start of the minute, hour or day, in seconds since 1970. All events that a router read are counted
    once with the outcome READ and no integration.
    """

    time: int
    kind: Kind
    key: CountKey
    number: int


class Block(NamedTuple):
    """All data about 4,096 consecutive offsets of a partition, as bit sets.

    `kinds` are the events that routers read, by kind and minute; no event is in two of them. `outcomes` are the events
    by recorded outcome.
    """

    topic: str
    partition: int
    number: int
    kinds: Mapping[tuple[Kind, int], int]
    outcomes: Mapping[Combo, int]


class Remark(NamedTuple):
    """The reason of one outcome of one event, or a note (outcome `noted`, without integration and rule)."""

    integration: str
    rule: str
    outcome: str
    reason: str
    detail: str


class Reader(Protocol):
    """Reads stored data. Each method sees all commits before its call."""

    def close(self) -> None:
        """Release files and connections."""

    def offsets(self) -> Mapping[Partition, int]:
        """Return the next offset to read of each partition of the topics that the ledger reads."""

    def partitions(self) -> Mapping[Partition, tuple[int, int]]:
        """Return the partitions with events, and the first and last offset that a router has read."""

    def find_id(self, id_hash: bytes) -> Sequence[Origin]:
        """Return the places of events whose messageId may have this hash, oldest first.

        A hash finds candidates, since other IDs may share it; check the event in Kafka.
        """

    def find_user(self, user_hash: bytes) -> Sequence[Origin]:
        """Return the places of events whose key may have this hash, oldest first; raises NoUserIndexError."""

    def blocks(self, topic: str, partition: int, first: int, end: int) -> Iterator[Block]:
        """Return the blocks with offsets from `first` up to, not including, `end`, in order, without empty ones."""

    def combos(self) -> Collection[Combo]:
        """Return every distinct recorded outcome."""

    def remarks(self, place: Origin) -> Sequence[Remark]:
        """Return the reasons and notes that were recorded for an event."""

    def dead_letters(self, place: Origin) -> Sequence[DeadLetterPlace]:
        """Return the places of an event's dead letters."""

    def dead_groups(self, hours_since: int) -> Sequence[DeadGroup]:
        """Return the groups of all dead letters in Kafka, unordered.

        `hours_since` (seconds since 1970) is where the groups' `hours` begin.
        """

    def catalog(self) -> Sequence[CatalogRow]:
        """Return the catalog of events and properties, unordered."""

    def counts(self, since: int, until: int, step: int = 60) -> Iterator[Count]:
        """Return counts from `since` up to, not including, `until` (seconds since 1970).

        `step` is 60, 3600 or 86400 seconds. Counts by minute go back as far as the events, by hour and day 13 months.
        Counts of zero are left out.
        """


class Store(Reader, Protocol):
    """Writes the data; only one ledger process at a time may write to a store.

    `write` is atomic: after a crash, either the batch and its offsets are stored or the offsets are not, and the same
    records are read and written again. Writing records again changes nothing: a store keeps the union of all batches,
    and counts each event once per integration and rule.
    """

    def write(self, batch: LedgerBatch) -> None:
        """Store a batch and its offsets; raises StoreError."""

    def keep(self) -> None:
        """Renew the lease of the writing process, every few seconds even without a batch. Raises StoreInUseError."""

    def expire(self, now: float) -> None:
        """Remove the data of events that Kafka no longer has, and old counts; `now` is in seconds since 1970."""


class NoUserIndexError(StoreError):
    """The store has no index of users, because no key for it is configured."""


def total(counts: Iterable[Count]) -> int:
    """Return the number of events in counts."""
    return sum(count.number for count in counts)
