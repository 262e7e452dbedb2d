"""Drop repeated messageIds within a window of each partition's last events.

An event is a repeat only of one with a *lower* offset; otherwise a redelivery after a crash would be dropped. The
window follows its partition: it is read back from the topic when the partition is assigned.
"""

import asyncio
import secrets
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from streams import events
from streams.digest_table import DIGEST_BYTES, DigestTable
from streams.events import Event
from streams.kafka.offsets import TP
from streams.kafka.reading import read_all_to_end
from streams.kafka.settings import Broker
from streams.kafka.timestamps import known_offsets
from streams.observability.internal_error import to_exception
from streams.records.event import Origin
from streams.records.format import REPLAY_HEADER, SOURCE_HEADER, RecordError, check_version
from streams.records.rejected import QUARANTINED_REASON, Rejected
from streams.topics import Topics

REPLAY_BYTES = 64
"""Maximum length of a replay header that is used; other producers may write longer ones."""

HOUR_MS = 3600 * 1000

_KEY = secrets.token_bytes(16)
"""The key of the digests, so that no sender can find two messageIds with the same one."""


def sender_of(headers: Iterable[tuple[str, bytes | None]], event: Event) -> str:
    """Return the scope in which a messageId must be unique: the source, and for a replayed event its rejected record.

    A replayed event therefore does not repeat the rejected one, but cannot be replayed twice.
    """
    source, replay = "", ""
    for name, value in headers:
        if value is None:
            continue
        if name == SOURCE_HEADER:
            source = value.decode(errors="replace")
        elif name == REPLAY_HEADER:
            replay = value[:REPLAY_BYTES].decode(errors="replace")
    source = source or event.get("writeKey", "")
    return f"{source} {replay}" if replay else source


class Window:
    """Remembers at least the last `size` events of a partition: source and messageId, with the offset of the first.

    It has two generations and drops the older one as a whole, at no cost per event. A messageId takes about 22 bytes,
    as a digest.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._young, self._old = DigestTable(size), DigestTable(0)

    def repeats(self, source: str, message_id: str, offset: int) -> bool:
        """Return whether the event at `offset` repeats an earlier one, and remember its messageId."""
        return bool(self._size) and self.repeats_digest(_digest(source, message_id), offset)

    def repeats_digest(self, digest: bytes, offset: int) -> bool:
        """Do the same as `repeats` for the event with this digest."""
        first = self._young.get(digest)
        if first is None:
            # A repeat moves its digest to the younger generation, so that it stays in the window.
            first = self._old.get(digest)
            if first is None:
                first = offset
            self._young.add(digest, first)
            if len(self._young) >= self._size:
                self._old, self._young = self._young, DigestTable(self._size)
        return first < offset

    def forget(self, source: str, message_id: str, offset: int) -> None:
        """Forget the event at `offset`: it was rejected and does not count as seen."""
        if not self._size:
            return
        digest = _digest(source, message_id)
        for generation in (self._young, self._old):
            if generation.get(digest) == offset:
                generation.discard(digest)


def _digest(source: str, message_id: str) -> bytes:
    text = f"{source} {message_id}".encode(errors="surrogatepass")
    return blake2b(text, digest_size=DIGEST_BYTES, key=_KEY).digest()


class Windows:
    """The windows of the partitions that are assigned to a router.

    Args:
        broker: How to connect to Kafka.
        size: The events that a window remembers; 0 turns deduplication off.
        client_id: The name of the client.
        its_topics: The topics of rejected events.
        assigned: Returns the assigned partitions, each with the offset after the last record that was finished earlier.

    """

    def __init__(
        self,
        broker: Broker,
        size: int,
        client_id: str,
        its_topics: Topics,
        assigned: Callable[[], Mapping[TP, int]] = dict,
    ) -> None:
        self._broker, self._size, self._client_id, self._topics = broker, size, client_id, its_topics
        self._assigned = assigned
        self._windows: dict[TP, Window] = {}
        self._pending: dict[TP, Window] = {}

    async def of(self, tp: TP, offset: int) -> Window:
        """Return the partition's window; a new window is filled from the events before `offset`.

        Also fills the windows of all other assigned partitions that have none.
        """
        window = self._windows.get(tp)
        if window is not None:
            return window
        ends = {other: end for other, end in self._assigned().items() if other not in self._windows}
        ends[tp] = max(offset, ends.get(tp, 0))
        read = {other: Window(self._size) for other in ends}
        self._pending = dict(read)
        try:
            if self._size:
                await self._read_back(read, ends)
            self._windows |= self._pending
        finally:
            self._pending = {}
        return read[tp]

    def is_reading(self) -> bool:
        """Return whether windows are being filled, which takes long with hundreds of partitions."""
        return bool(self._pending)

    def drop(self, tps: Iterable[TP]) -> None:
        """Drop the windows of revoked partitions."""
        for tp in tps:
            self._windows.pop(tp, None)
            self._pending.pop(tp, None)

    async def _read_back(self, windows: Mapping[TP, Window], ends: Mapping[TP, int]) -> None:
        """Fill each window with the events before its end that count as seen, without rejected ones."""
        parts = [TopicPartition(*tp) for tp, end in ends.items() if end]
        if not parts:
            return
        consumer = AIOKafkaConsumer(
            **self._broker.consumer(), client_id=self._client_id, group_id=None, enable_auto_commit=False
        )
        await consumer.start()
        try:
            consumer.assign(parts)
            begins = await consumer.beginning_offsets(parts)
            stretches = {part: _Stretch(max(begins[part], ends[part] - self._size), ends[part]) for part in parts}
            for part, stretch in stretches.items():
                consumer.seek(part, stretch.first)
            async for part, records in read_all_to_end(consumer, {part: ends[part] for part in parts}):
                stretches[part].add(records)
            rejected = await self._read_rejected(consumer, stretches)
        finally:
            await consumer.stop()
        for part, stretch in stretches.items():
            for digest, offset in stretch.seen():
                if (*part, offset) not in rejected:
                    windows[part].repeats_digest(digest, offset)
            await asyncio.sleep(0)  # for other tasks of the event loop

    async def _read_rejected(
        self, consumer: AIOKafkaConsumer, stretches: Mapping[TopicPartition, "_Stretch"]
    ) -> set[Origin]:
        """Find the events in these offset ranges that the router rejected."""
        now = int(time.time() * 1000)
        since: dict[TopicPartition, int] = {}
        for part, stretch in stretches.items():
            rejected = TopicPartition(self._topics.rejected, part.partition % self._topics.partitions)
            since[rejected] = min(since.get(rejected, now), stretch.since)
        consumer.assign(list(since))
        ends = await consumer.end_offsets(list(since))
        begins = await consumer.beginning_offsets(list(since))
        times = {part: max(0, time - HOUR_MS) for part, time in since.items() if 0 < time < now}
        found = known_offsets(await consumer.offsets_for_times(times)) if times else {}
        for part in since:
            consumer.seek(part, found.get(part, ends[part]) if part in times else begins[part])
        origins = set()
        async for _, records in read_all_to_end(consumer, ends):
            for origin in filter(None, map(_origin_of_rejected, records)):
                known = stretches.get(TopicPartition(origin.topic, origin.partition))
                if known is not None and origin.offset >= known.first:
                    origins.add(origin)
        return origins


class _Stretch:
    """The events read to fill a partition's window, at about 20 bytes each.

    `since` is the time of the oldest one in milliseconds since 1970, or 0 if a record has no time.
    """

    def __init__(self, first: int, end: int) -> None:
        self.first, self._end = first, end
        self.since = int(time.time() * 1000)
        self._offsets = array("q")
        self._digests = bytearray()

    def add(self, records: Iterable[Any]) -> None:
        """Add the valid events among some records."""
        for record in records:
            self.since = min(self.since, max(0, record.timestamp))
            if record.offset < self._end and (found := _identify(record)) is not None:
                self._offsets.append(record.offset)
                self._digests += _digest(*found)

    def seen(self) -> Iterator[tuple[bytes, int]]:
        """Return the digests of the events with their offsets."""
        for at, offset in enumerate(self._offsets):
            yield bytes(self._digests[at * DIGEST_BYTES : (at + 1) * DIGEST_BYTES]), offset


def _origin_of_rejected(record: Any) -> Origin | None:
    """Return the coordinates of a rejected record's event; None if the event counts as seen."""
    try:
        rejected = Rejected.decode(record.key, record.value, record.headers)
    except RecordError:
        return None
    return rejected.origin if rejected.reason != QUARANTINED_REASON else None


def _identify(record: Any) -> tuple[str, str] | None:
    """Return the dedupe key of an event: its scope and messageId. None if the record is not a valid event."""
    try:
        check_version(record.headers)
        event = events.parse(record.value or b"", Origin(record.topic, record.partition, record.offset))
        return sender_of(record.headers, event), event["messageId"]
    except BaseException as error:  # noqa: BLE001  # the router rejects these, and a rejected event does not count
        to_exception(error)
        return None
