"""Drop repeated messageIds within a window of each partition's last events.

An event is a repeat only of one with a *lower* offset; otherwise a redelivery after a crash would be dropped. The
window follows its partition: it is read back from the topic when the partition is assigned.
"""

import secrets
import time
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from streams import events
from streams.digest_table import DIGEST_BYTES, DigestTable
from streams.events import Event
from streams.kafka.offsets import TP
from streams.kafka.reading import read_to_end
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

    It has two generations, and drops the older one as a whole, which costs nothing per event. Of a messageId it has a
    digest, in about 22 bytes.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._young, self._old = DigestTable(size), DigestTable(0)

    def repeats(self, source: str, message_id: str, offset: int) -> bool:
        """Return whether the event at `offset` repeats an earlier one, and remember its messageId."""
        if not self._size:
            return False
        digest = _digest(source, message_id)
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
    """The windows of the partitions that are assigned to a router."""

    def __init__(self, broker: Broker, size: int, client_id: str, its_topics: Topics) -> None:
        self._broker, self._size, self._client_id, self._topics = broker, size, client_id, its_topics
        self._windows: dict[TP, Window] = {}

    async def of(self, tp: TP, offset: int) -> Window:
        """Return the partition's window; a new window is read back from the events before `offset`."""
        window = self._windows.get(tp)
        if window is None:
            window = Window(self._size)
            if self._size and offset:
                await self._read_back(window, TopicPartition(*tp), offset)
            self._windows[tp] = window
        return window

    def drop(self, tps: Iterable[TP]) -> None:
        """Drop the windows of revoked partitions."""
        for tp in tps:
            self._windows.pop(tp, None)

    async def _read_back(self, window: Window, tp: TopicPartition, end: int) -> None:
        """Add the events before `end` that count as seen, without rejected ones."""
        consumer = AIOKafkaConsumer(
            **self._broker.consumer(), client_id=self._client_id, group_id=None, enable_auto_commit=False
        )
        await consumer.start()
        try:
            consumer.assign([tp])
            first = max((await consumer.beginning_offsets([tp]))[tp], end - self._size)
            consumer.seek(tp, first)
            seen: list[tuple[str, str, int]] = []
            since = now = int(time.time() * 1000)
            async for records in read_to_end(consumer, tp, end):
                for record in records:
                    since = min(since, record.timestamp)
                    if record.offset < end and (found := _identify(record)) is not None:
                        seen.append((*found, record.offset))
            rejected = await self._read_rejected(consumer, tp, first, since if 0 < since < now else 0)
        finally:
            await consumer.stop()
        for sender, message_id, offset in seen:
            if offset not in rejected:
                window.repeats(sender, message_id, offset)

    async def _read_rejected(self, consumer: AIOKafkaConsumer, tp: TopicPartition, first: int, since: int) -> set[int]:
        """Find the offsets of a partition, from `first` on, that the router rejected after `since` (ms since 1970)."""
        part = TopicPartition(self._topics.rejected, tp.partition % self._topics.partitions)
        consumer.assign([part])
        end = (await consumer.end_offsets([part]))[part]
        if since:
            found = known_offsets(await consumer.offsets_for_times({part: max(0, since - HOUR_MS)}))
            consumer.seek(part, found.get(part, end))
        else:
            await consumer.seek_to_beginning(part)
        offsets = set()
        async for records in read_to_end(consumer, part, end):
            for record in records:
                origin = _origin_of_rejected(record)
                if origin is not None and origin[:2] == (tp.topic, tp.partition) and origin.offset >= first:
                    offsets.add(origin.offset)
        return offsets


def _origin_of_rejected(record: Any) -> Origin | None:
    """Return the coordinates of the event that a rejected record is about; None if the event counts as seen."""
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
