"""Repeated messageIds: a window of the last events of each partition.

An event is a repeat only of one with a *lower* offset; otherwise our own redelivery after a crash would pass for one.
The window goes with its partition, and is read back from the topic when the partition comes.
"""

from collections.abc import Iterable
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from streams import events, topics
from streams.broker import Broker
from streams.events import Event
from streams.progress import TP


def source_of(headers: Iterable[tuple[str, bytes]]) -> str | None:
    """The source that a record's headers name."""
    for name, value in headers:
        if name == topics.SOURCE_HEADER:
            return value.decode(errors="replace")
    return None


def sender_of(headers: Iterable[tuple[str, bytes]], event: Event) -> str:
    """What a messageId is unique within: a source, and of what was rejected and is sent again only that.

    So what is sent again repeats neither the event that was rejected, nor lets itself be sent twice.
    """
    source, replay = "", ""
    for name, value in headers:
        if name == topics.SOURCE_HEADER:
            source = value.decode(errors="replace")
        elif name == topics.REPLAY_HEADER:
            replay = value.decode(errors="replace")
    source = source or event.get("writeKey", "")
    return f"{source} {replay}" if replay else source


class Window:
    """The messageIds of at least the last `size` events of a partition, by source, each with its lowest offset.

    Kept in two generations, so that forgetting is dropping a whole one and costs nothing by event.
    """

    __slots__ = ("_old", "_size", "_young")

    def __init__(self, size: int) -> None:
        self._size = size
        self._young: dict[str, int] = {}
        self._old: dict[str, int] = {}

    def repeats(self, source: str, message_id: str, offset: int) -> bool:
        """Whether the event at `offset` repeats an earlier one; remembers it if not."""
        if not self._size:
            return False
        key = f"{source} {message_id}"
        first = self._old.get(key)
        if first is not None and first < offset:
            return True
        if self._young.setdefault(key, offset) < offset:
            return True
        if len(self._young) >= self._size:
            self._old, self._young = self._young, {}
        return False

    def remember(self, record: Any) -> None:
        """Take in a record of the events topic that is not to be routed (again); one that is no event counts not."""
        try:
            event = events.parse(record.value or b"", topics.Origin(record.topic, record.partition, record.offset))
        except events.EventError:
            return
        self.repeats(sender_of(record.headers, event), event["messageId"], record.offset)


class Windows:
    """The windows of the partitions that a router holds."""

    def __init__(self, broker: Broker, size: int, client_id: str) -> None:
        self._broker, self._size, self._client_id = broker, size, client_id
        self._windows: dict[TP, Window] = {}

    async def of(self, tp: TP, offset: int) -> Window:
        """The partition's window; when the partition is new it is read back from before `offset`."""
        window = self._windows.get(tp)
        if window is None:
            window = Window(self._size)
            if self._size and offset:
                await self._read_back(window, TopicPartition(*tp), offset)
            self._windows[tp] = window
        return window

    def drop(self, tps: Iterable[TP]) -> None:
        """These partitions are no longer ours."""
        for tp in tps:
            self._windows.pop(tp, None)

    async def _read_back(self, window: Window, tp: TopicPartition, end: int) -> None:
        consumer = AIOKafkaConsumer(
            **self._broker.client(), client_id=self._client_id, group_id=None, enable_auto_commit=False
        )
        await consumer.start()
        try:
            consumer.assign([tp])
            first = (await consumer.beginning_offsets([tp]))[tp]
            consumer.seek(tp, max(first, end - self._size))
            while await consumer.position(tp) < end:
                for record in (await consumer.getmany(timeout_ms=1000)).get(tp, ()):
                    if record.offset < end:
                        window.remember(record)
        finally:
            await consumer.stop()
