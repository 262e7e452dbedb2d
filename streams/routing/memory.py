"""Keep the memory of users and visitors for the partitions of a router.

An ID's home is the partition of the events that have it as their key: the userId, else the anonymousId. Only the router
of the home writes its entry. A user and the anonymous visitor who became that user may have different homes. In that
case the router of the user's home writes a link to the visitor's home, and the router there copies the visitor's entry
to the user's home, immediately and after each change.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streams.events import Event
from streams.kafka.acks import PendingAcks
from streams.kafka.offsets import TP
from streams.kafka.partition import make_partitioner
from streams.kafka.producer import Producer
from streams.kafka.reading import read_all_to_end
from streams.kafka.settings import Broker, BrokerError
from streams.observability.logging import error_fields
from streams.parsing.times import record_time
from streams.records.format import MEMORY_VERSION, NewerFormatError, RecordError, check_version
from streams.records.memory import (
    MEMORY_END,
    MEMORY_MARK,
    MemoryCipher,
    MemoryEntry,
    MemoryKey,
    MemoryKind,
    Remembered,
    Values,
    Visitor,
    encode_link,
    is_copied,
    memory_headers,
)
from streams.steps.enrichment.memory import GROUP_SECONDS
from streams.topics import Topics

log = structlog.get_logger()

RETRY_SECONDS = 1.0
"""Delay before the next attempt if Kafka is unavailable."""

REFRESH_SHARE = 16
"""An unchanged value is written again when this part of its time to live has passed, so that it is not written for each
event.
"""

END_TIMEOUT_SECONDS = 60.0
"""Seconds to wait until Kafka has the record MEMORY_END."""

FUTURE_SECONDS = 60.0
"""Seconds by which the time of a record may be ahead of the clock; later times count as the clock's."""

Write = tuple[int, MemoryKey, bytes | None]
"""A record to write: partition, key, value."""


class _Stored(NamedTuple):
    """An encrypted entry, and when it was written, in seconds since 1970."""

    value: bytes
    time: float


class MemoryLimits(NamedTuple):
    """Time to live of values in seconds, and the maximum number of entries in a partition."""

    seconds: int
    entries: int


class MemoryTable:
    """The memory of one partition. Changes are buffered until `take_writes` and must be written in order.

    `entries`, `copies` and `links` are by the digest of an ID; the oldest entry comes first. Links have the partitions
    that an entry is copied to.
    """

    origin = ""

    def __init__(
        self, partition: int, cipher: MemoryCipher, limits: MemoryLimits, home: Callable[[bytes], int]
    ) -> None:
        self._partition, self._cipher, self._limits, self._home = partition, cipher, limits, home
        self._entries: dict[bytes, _Stored] = {}
        self._copies: dict[bytes, _Stored] = {}
        self._links: dict[bytes, set[int]] = {}
        self._forgotten: dict[bytes, None] = {}
        self._writes: dict[tuple[int, MemoryKey], bytes | None] = {}
        self._now = 0.0
        self._last: tuple[bytes, bytes, MemoryEntry] | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def at(self, time: float) -> "MemoryTable":
        """Return the table for an event whose record has this time, in seconds since 1970."""
        self._now = time
        return self

    def take_writes(self) -> Iterator[Write]:
        """Return the records to write, and clear the buffer."""
        writes, self._writes = self._writes, {}
        return ((partition, key, value) for (partition, key), value in writes.items())

    def recall(self, event: Event) -> Mapping[str, Remembered]:
        """Implement MemoryAccess."""
        own, _ = self._ids(event)
        if own is None:
            return {}
        entry = self._read(self._entries, own) or MemoryEntry()
        newest: dict[str, Remembered] = {}
        visitors = [bytes.fromhex(visitor.digest) for visitor in entry.visitors if self._is_fresh(visitor.time)]
        found = [self._read(self._entries, each) or self._read(self._copies, each) for each in visitors]
        for known in (entry, *filter(None, found)):
            for name, remembered in known.groups.items():
                newer = name not in newest or newest[name].time < remembered.time
                if newer and self._is_fresh(remembered.time, GROUP_SECONDS.get(name)):
                    newest[name] = remembered
        return newest

    def remember(self, event: Event, found: Mapping[str, Values]) -> None:
        """Implement MemoryAccess."""
        own, others = self._ids(event)
        if own is None or not (found or others):
            return
        entry = self._read(self._entries, own) or MemoryEntry()
        now, changed = int(self._now), False
        for name, values in found.items():
            known = entry.groups.get(name)
            if known is None or known.values != values or self._is_stale(known.time, GROUP_SECONDS.get(name)):
                entry.groups[name] = Remembered(values, now)
                changed = True
        linked = [digest for digest, home in others.items() if self._link(entry, Visitor(digest.hex(), home, now))]
        if changed or linked:
            self._put(own, entry)
        for digest in linked:
            self._forgotten.pop(digest, None)
            if others[digest] != self._partition:
                link = MemoryKey(MemoryKind.LINK, digest, self._partition)
                self._writes[others[digest], link] = encode_link(copied=False)

    def forget(self, event: Event) -> None:
        """Implement MemoryAccess."""
        own, others = self._ids(event)
        if own is None:
            return
        self._delete(own)
        for digest, home in others.items():
            self._request_forget(digest, home)

    def take(self, key: MemoryKey, value: bytes | None, time: float, *, live: bool) -> list[MemoryKey]:
        """Apply a record of the partition; returns the link in it if the entry must be copied.

        If `live`, entries are ignored: only this router writes them. Raises RecordError and NewerFormatError.
        """
        kind, digest, _ = key
        if kind is MemoryKind.FORGET:
            if value is not None:
                self._delete(digest)
                self._writes[self._partition, key] = None
        elif kind is MemoryKind.LINK:
            return self._take_link(key, value)
        elif kind is MemoryKind.COPY or not live:
            entries = self._copies if kind is MemoryKind.COPY else self._entries
            entries.pop(digest, None)
            if value is not None:
                entries[digest] = _Stored(value, time)
                if kind is MemoryKind.ENTRY:
                    self._writes.pop((self._partition, key), None)
            self._drop_oldest(entries, own=kind is MemoryKind.ENTRY)
        return []

    def copy(self, link: MemoryKey) -> None:
        """Copy an entry to the partition of a link."""
        stored = self._entries.get(link.digest)
        if stored is not None:
            self._writes[link.target, MemoryKey(MemoryKind.COPY, link.digest)] = stored.value

    def _take_link(self, key: MemoryKey, value: bytes | None) -> list[MemoryKey]:
        targets = self._links.pop(key.digest, set())
        if value is None:
            targets.discard(key.target)
        else:
            targets.add(key.target)
        if targets:
            self._links[key.digest] = targets
        while len(self._links) > self._limits.entries:
            self._unlink(next(iter(self._links)))
        return [key] if value is not None and not is_copied(value) else []

    def _ids(self, event: Event) -> tuple[bytes | None, dict[bytes, int]]:
        """Return the digest of the event's key, and the digests of its visitor's IDs with their homes."""
        user, anonymous = event.get("userId"), event.get("anonymousId")
        own = user if user is not None else anonymous
        if own is None:
            return None, {}
        digest = self._cipher.digest(str(own))
        others = {}
        for other in (anonymous, event.get("previousId") if event["type"] == "alias" else None):
            if other is not None and other != own:
                others[self._cipher.digest(str(other))] = self._home(str(other).encode(errors="surrogatepass"))
        return digest, others

    def _link(self, entry: MemoryEntry, new: Visitor) -> bool:
        """Link an entry to a visitor; returns whether the entry has changed."""
        known = next((visitor for visitor in entry.visitors if visitor.digest == new.digest), None)
        if known is not None:
            if not self._is_stale(known.time):
                return False
            entry.visitors.remove(known)
        entry.visitors.append(new)
        return True

    def _read(self, entries: Mapping[bytes, _Stored], digest: bytes) -> MemoryEntry | None:
        """Return an entry. The last one is cached, since each event is first remembered and then completed."""
        stored = entries.get(digest)
        if stored is None:
            return None
        if self._last is not None and self._last[0] == digest and self._last[1] is stored.value:
            return self._last[2]
        entry = self._cipher.decrypt(digest, stored.value)
        self._last = (digest, stored.value, entry) if entry is not None else None
        return entry

    def _put(self, digest: bytes, entry: MemoryEntry) -> None:
        for name in [name for name, known in entry.groups.items() if not self._is_fresh(known.time)]:
            del entry.groups[name]
        self._last = None  # the entry has changed, and may fail to be stored
        value = self._cipher.encrypt(digest, entry)
        self._last = digest, value, entry
        self._entries.pop(digest, None)
        self._entries[digest] = _Stored(value, self._now)
        self._write_entry(digest, value)
        self._drop_oldest(self._entries, own=True)

    def _write_entry(self, digest: bytes, value: bytes | None) -> None:
        self._writes[self._partition, MemoryKey(MemoryKind.ENTRY, digest)] = value
        for target in self._links.get(digest, ()):
            self._writes[target, MemoryKey(MemoryKind.COPY, digest)] = value

    def _drop_oldest(self, entries: dict[bytes, _Stored], *, own: bool) -> None:
        """Drop expired entries, and the oldest ones beyond the limit."""
        while entries:
            digest, stored = next(iter(entries.items()))
            if len(entries) <= self._limits.entries and self._is_fresh(stored.time):
                break
            del entries[digest]
            if own:
                self._write_entry(digest, None)
                self._unlink(digest)

    def _delete(self, digest: bytes) -> None:
        """Delete an entry, its copies and links, and request deletion of its visitors' entries."""
        entry = self._read(self._entries, digest)
        if self._entries.pop(digest, None) is not None:
            self._write_entry(digest, None)
        self._unlink(digest)
        for visitor in entry.visitors if entry else ():
            self._request_forget(bytes.fromhex(visitor.digest), visitor.partition)

    def _request_forget(self, digest: bytes, home: int) -> None:
        """Request deletion of an ID's entry from the router of its home; only once until the ID is remembered again."""
        if home == self._partition:
            self._delete(digest)
        elif digest not in self._forgotten:
            self._copies.pop(digest, None)
            self._writes[home, MemoryKey(MemoryKind.FORGET, digest)] = MEMORY_MARK
            self._forgotten[digest] = None
            if len(self._forgotten) > self._limits.entries:
                del self._forgotten[next(iter(self._forgotten))]

    def _unlink(self, digest: bytes) -> None:
        for target in self._links.pop(digest, ()):
            self._writes[self._partition, MemoryKey(MemoryKind.LINK, digest, target)] = None
            self._writes[target, MemoryKey(MemoryKind.COPY, digest)] = None

    def _is_fresh(self, time: float, seconds: int | None = None) -> bool:
        return self._now - time <= min(seconds or self._limits.seconds, self._limits.seconds)

    def _is_stale(self, time: float, seconds: int | None = None) -> bool:
        return self._now - time > min(seconds or self._limits.seconds, self._limits.seconds) / REFRESH_SHARE


class MemoryTables:
    """The tables of the partitions that are assigned to a router.

    A table is read completely when its partition is assigned, together with those of all other partitions that
    `assigned` returns. Then a task follows the topic for the records of other routers.
    """

    def __init__(
        self,
        broker: Broker,
        topics: Topics,
        producer: Producer,
        cipher: MemoryCipher,
        limits: MemoryLimits,
        client_id: str,
        clock: Callable[[], float],
        fail: Callable[[Exception], object],
        assigned: Callable[[], Collection[TP]] = tuple,
    ) -> None:
        self._assigned_parts = assigned
        self._loading: dict[int, MemoryTable] = {}
        self._broker, self._topics, self._producer, self._client_id = broker, topics, producer, client_id
        self._cipher, self._limits, self._clock, self._fail = cipher, limits, clock, fail
        self._home = make_partitioner(topics.partitions)
        self._tables: dict[int, MemoryTable] = {}
        self._positions: dict[int, int] = {}
        self._assigned: frozenset[int] = frozenset()
        self._task: asyncio.Task[None] | None = None

    def open(self, table: MemoryTable, timestamp: int | None) -> MemoryTable:
        """Return a table for an event whose record has this timestamp, in milliseconds since 1970."""
        now = self._clock()
        time = record_time(timestamp, self._clock)
        return table.at(time if time <= now + FUTURE_SECONDS else now)

    async def of(self, tp: TP) -> MemoryTable | None:
        """Return the table of a partition of the events topic; None for topics that other systems partition."""
        topic, partition = tp
        if topic != self._topics.events:
            return None
        while (table := self._tables.get(partition)) is None:
            others = {number for name, number in self._assigned_parts() if name == topic and number not in self._tables}
            try:
                table = (await self._load({partition, *others}))[partition]
                break
            except KafkaError as error:
                log.warning("cannot read the memory of visitors; routing is paused", **error_fields(error))
                await asyncio.sleep(RETRY_SECONDS)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._follow())
        return table

    def drop(self, tps: Iterable[TP]) -> None:
        """Drop the tables of revoked partitions."""
        for topic, partition in tps:
            if topic == self._topics.events:
                self._tables.pop(partition, None)
                self._positions.pop(partition, None)
                self._loading.pop(partition, None)

    def write(self, table: MemoryTable, acks: PendingAcks) -> None:
        """Write the changes of a table."""
        for partition, key, value in table.take_writes():
            self._producer.append(
                self._topics.memory, partition, acks, key=key.encode(), value=value, headers=memory_headers()
            )

    async def stop(self) -> None:
        """Stop following the topic."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def is_loading(self) -> bool:
        """Return whether tables are being read."""
        return bool(self._loading)

    async def _load(self, partitions: Collection[int]) -> Mapping[int, MemoryTable]:
        """Read the tables of partitions at the same time. A table whose partition is revoked meanwhile is not kept."""
        now = self._clock()
        tables = {each: MemoryTable(each, self._cipher, self._limits, self._home).at(now) for each in partitions}
        self._loading = dict(tables)
        try:
            await self._mark_ends(partitions)
            uncopied, positions = await self._read(tables)
            for partition, table in self._loading.items():
                self._tables[partition], self._positions[partition] = table, positions[partition]
                self._copy(table, partition, uncopied[partition])
        finally:
            self._loading = {}
        return tables

    async def _mark_ends(self, partitions: Iterable[int]) -> None:
        # Compaction removes tombstones, also at the end of the topic, where reading would wait for them.
        acks = PendingAcks()
        for partition in partitions:
            self._producer.append(
                self._topics.memory,
                partition,
                acks,
                key=MEMORY_END,
                value=MEMORY_MARK,
                headers=memory_headers(),
            )
        with suppress(TimeoutError, BrokerError):
            await acks.confirmed(END_TIMEOUT_SECONDS)

    async def _read(
        self, tables: Mapping[int, MemoryTable]
    ) -> tuple[Mapping[int, Sequence[MemoryKey]], Mapping[int, int]]:
        """Fill tables; returns the links whose entries must be copied, and each partition's next offset."""
        uncopied: dict[int, list[MemoryKey]] = {partition: [] for partition in tables}
        parts = [TopicPartition(self._topics.memory, partition) for partition in tables]
        consumer = self._make_consumer()
        await consumer.start()
        try:
            consumer.assign(parts)
            await consumer.seek_to_beginning(*parts)
            async for part, records in read_all_to_end(consumer, await consumer.end_offsets(parts)):
                for record in records:
                    uncopied[part.partition] += _apply(tables[part.partition], record, live=False)
            return uncopied, {part.partition: await consumer.position(part) for part in parts}
        finally:
            await consumer.stop()

    async def _follow(self) -> None:
        while True:
            consumer = self._make_consumer()
            try:
                await consumer.start()
                self._assigned = frozenset()
                while True:
                    await self._follow_once(consumer)
            except KafkaError as error:
                log.warning("cannot follow the memory of visitors", **error_fields(error))
                await asyncio.sleep(RETRY_SECONDS)
            except Exception as error:  # noqa: BLE001  # the worker must not go on without its memory
                self._fail(error)
                return
            finally:
                await consumer.stop()

    async def _follow_once(self, consumer: AIOKafkaConsumer) -> None:
        """Apply records of other routers, and copy the entries of new links."""
        assigned = frozenset(self._tables)
        if assigned != self._assigned:
            consumer.assign([TopicPartition(self._topics.memory, partition) for partition in assigned])
            for partition in assigned:
                consumer.seek(TopicPartition(self._topics.memory, partition), self._positions[partition])
            self._assigned = assigned
        if not assigned:
            await asyncio.sleep(RETRY_SECONDS)
            return
        for part, records in (await consumer.getmany(timeout_ms=int(RETRY_SECONDS * 1000))).items():
            table = self._tables.get(part.partition)
            if table is None or records[0].offset < self._positions[part.partition]:
                # The partition was revoked, and may have been read again since.
                self._assigned = frozenset()
                continue
            uncopied = [link for record in records for link in _apply(table, record, live=True)]
            self._positions[part.partition] = records[-1].offset + 1
            self._copy(table, part.partition, uncopied)
        await self._producer.wait_for_room()

    def _copy(self, table: MemoryTable, partition: int, links: Iterable[MemoryKey]) -> None:
        """Write a table's changes and the copies for links; mark the links once Kafka has confirmed the records."""
        marks = list(links)
        for link in marks:
            table.copy(link)
        acks = PendingAcks(partial(self._mark, partition, marks))
        self.write(table, acks)
        acks.seal()

    def _mark(self, partition: int, links: Iterable[MemoryKey], error: BaseException | None) -> None:
        acks = PendingAcks()
        for link in links if error is None else ():
            self._producer.append(
                self._topics.memory,
                partition,
                acks,
                key=link.encode(),
                value=encode_link(copied=True),
                headers=memory_headers(),
            )

    def _make_consumer(self) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            **self._broker.consumer(), client_id=self._client_id, group_id=None, enable_auto_commit=False
        )


def _apply(table: MemoryTable, record: Any, *, live: bool) -> list[MemoryKey]:
    """Apply a record; an invalid one is ignored. Raises NewerFormatError."""
    if record.key == MEMORY_END:
        return []
    try:
        check_version(record.headers, MEMORY_VERSION)
        return table.take(MemoryKey.decode(record.key), record.value, record.timestamp / 1000, live=live)
    except NewerFormatError:
        raise
    except RecordError as error:
        log.warning("ignored a record of the memory of visitors", **error_fields(error))
        return []
