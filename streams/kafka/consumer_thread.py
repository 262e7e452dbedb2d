"""The thread of a Faust consumer: seek every assigned partition, and record which range of offsets a fetch covers.

Kafka's offsets have gaps: transaction markers, aborted transactions, compacted records. Only the fetch can distinguish
such a gap from records that were lost afterwards, so each fetched list has the range that it covers.

This overrides private parts of faust-streaming 0.15.3 and aiokafka 0.14.0; tests/streams/kafka/test_transport.py and
test_positions.py test the behaviour that it relies on.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import aiokafka.consumer.fetcher
import structlog
from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    InvalidCommitOffsetSizeError,
    OffsetMetadataTooLargeError,
)
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords, _MemoryRecordsPy
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from streams.kafka.settings import READ_COMMITTED
from streams.observability.internal_error import to_exception
from streams.observability.logging import error_fields

log = structlog.get_logger()


class Committed(NamedTuple):
    """A partition's committed offset, and the metadata of the commit."""

    offset: int
    metadata: str = ""


class MetadataRefusedError(Exception):
    """Kafka allows less metadata in a commit than was sent."""


class FetchedRecords(list[Any]):
    """All records from offset `start` up to, not including, `end`; may be empty."""

    __slots__ = ("end", "start")

    def __init__(self, records: list[Any], start: int, end: int) -> None:
        super().__init__(records)
        self.start = start
        self.end = end


class FetchedBytes:
    """The record batches of one partition in a fetch, as aiokafka's fetcher reads them; `data` has their bytes."""

    __slots__ = ("data", "has_next", "next_batch", "size_in_bytes")

    def __init__(self, data: bytes) -> None:
        self.data = data
        batches = MemoryRecords(data)
        self.has_next = batches.has_next
        self.next_batch = batches.next_batch
        self.size_in_bytes = batches.size_in_bytes


class _LenientText(bytearray):
    """Bytes whose parts decode to text, with U+FFFD for invalid UTF-8."""

    def __getitem__(self, item: Any) -> Any:
        part = super().__getitem__(item)
        return _LenientText(part) if isinstance(item, slice) else part

    def decode(self, encoding: str = "utf-8", errors: str = "replace") -> str:
        return super().decode(encoding, errors)


class LenientBytes(_MemoryRecordsPy):  # type: ignore[misc]  # as below
    """Record batches with any header names, also those that the fetcher's parser in C rejects."""

    def next_batch(self) -> Any:
        """Return the next batch, None at the end."""
        data = self._next_slice
        if data is None or data[self.MAGIC_OFFSET] < 2:  # older formats have no headers
            return super().next_batch()
        self._cache_next()
        batch = _DefaultRecordBatchPy(data)
        batch.validate_crc = lambda: True  # the first parser has validated it
        batch._maybe_uncompress()
        batch._buffer = _LenientText(batch._buffer)
        return batch


class PartitionRecords(aiokafka.consumer.fetcher.PartitionRecords):  # type: ignore[misc]  # as below
    """A partition's fetched records, which the lenient parser can read again."""

    def __init__(self, tp: Any, records: FetchedBytes, aborted_transactions: Any, *arguments: Any) -> None:
        super().__init__(tp, records, aborted_transactions, *arguments)
        self._data, self._all_aborted = records.data, aborted_transactions

    def read_leniently(self, offset: int) -> None:
        """Read again from an offset, with the lenient parser."""
        self._records = LenientBytes(self._data)
        self._aborted_transactions = sorted(self._all_aborted or [], key=lambda each: each[1])
        self._aborted_producers: set[int] = set()
        self.next_fetch_offset = offset
        self._records_iterator = self._unpack_records()


class RangedFetchResult(aiokafka.consumer.fetcher.FetchResult):  # type: ignore[misc]  # aiokafka is untyped
    """A fetch result whose lists of records have the range of offsets that they cover."""

    def getall(self, max_records: int | None = None) -> list[Any]:
        """Return the next records as `FetchedRecords`. The list after a gap covers it."""
        source = self._partition_records
        start = source.next_fetch_offset if source is not None else None
        try:
            records: list[Any] = super().getall(max_records)
        except UnicodeDecodeError:
            source.read_leniently(start)
            records = super().getall(max_records)
        if start is None:
            return records
        state = self._assignment.state_value(self._topic_partition)
        before: FetchedRecords | None = state.__dict__.pop("fetched_nothing", None)
        if before is not None and before.end == start:
            start = before.start
        fetched = FetchedRecords(records, start, source.next_fetch_offset)
        if not records and fetched.end > fetched.start:
            state.fetched_nothing = fetched
        return fetched


def patch_fetch_results() -> None:
    """Make aiokafka's fetcher use the classes of this module."""
    aiokafka.consumer.fetcher.FetchResult = RangedFetchResult
    aiokafka.consumer.fetcher.PartitionRecords = PartitionRecords
    aiokafka.consumer.fetcher.MemoryRecords = FetchedBytes


patch_fetch_results()


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """Run aiokafka's consumer, reading only committed records."""

    def on_crash(self, msg: str, *fmt: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Log the crash in one line; mode would print a traceback."""
        for error in fmt:
            if isinstance(error, BaseException):
                log.error("the thread of a consumer failed", **error_fields(error))

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        # Faust sets this only with its own transactions. `start` passes it to the fetcher.
        consumer._isolation_level = READ_COMMITTED["isolation_level"]
        return consumer

    async def _fetch_records(self, consumer: Any, *args: Any, **kwargs: Any) -> dict[TP, FetchedRecords]:
        """Return the fetched ranges, including ranges without a record."""
        fetched = cast("dict[TP, FetchedRecords]", await super()._fetch_records(consumer, *args, **kwargs))
        assignment = self._assignment()
        if assignment is not None:
            for tp in assignment.tps:
                nothing = (
                    assignment.state_value(tp).__dict__.pop("fetched_nothing", None) if tp not in fetched else None
                )
                if nothing is not None:
                    fetched[tp] = nothing
        return fetched

    async def seek_all(self) -> Mapping[TP, tuple[Committed, int]]:
        """Seek each assigned partition to its committed offset, or to its beginning; return both, with the metadata.

        aiokafka does not seek a partition whose committed offset is 0 or unknown, and its `committed()` drops the
        metadata. The result is empty if the assignment changes meanwhile; Faust then asks for the seek again.
        """
        result: Mapping[TP, tuple[Committed, int]] = await self.call_thread(self._seek_all)
        return result

    async def _seek_all(self) -> dict[TP, tuple[Committed, int]]:
        consumer = self._ensure_consumer()
        assignment = self._assignment()
        if assignment is None:
            return {}
        committed = await consumer._coordinator.fetch_committed_offsets(list(assignment.tps))
        begins = await consumer.beginning_offsets(list(assignment.tps)) if assignment.tps else {}
        if not assignment.active:
            return {}
        found = {tp: Committed(*committed[tp]) if tp in committed else Committed(begins[tp]) for tp in assignment.tps}
        for tp, position in found.items():
            consumer._fetcher.seek_to(tp, position.offset)
        return {TP(*tp): (position, begins[tp]) for tp, position in found.items()}

    async def seek_to(self, offsets: Mapping[TP, int]) -> None:
        """Seek these partitions, except those that are not assigned."""
        await self.call_thread(self._seek_to, offsets)

    async def _seek_to(self, offsets: Mapping[TP, int]) -> None:
        consumer = self._ensure_consumer()
        assignment = self._assignment()
        for tp, offset in offsets.items():
            if assignment is not None and tp in assignment.tps:
                consumer._fetcher.seek_to(TopicPartition(*tp), offset)

    async def bounds(self, tp: TP) -> tuple[int, int]:
        """Ask Kafka for a partition's first offset and its last stable offset; raises KafkaError."""
        result: tuple[int, int] = await self.call_thread(self._bounds, TopicPartition(*tp))
        return result

    async def _bounds(self, part: TopicPartition) -> tuple[int, int]:
        consumer = self._ensure_consumer()
        return (await consumer.beginning_offsets([part]))[part], (await consumer.end_offsets([part]))[part]

    async def commit_all(self, positions: Mapping[TP, Committed]) -> bool:
        """Commit; return False if the partitions were reassigned, and their records will be redelivered.

        Raises MetadataRefusedError if Kafka allows less metadata.
        """
        result: bool = await self.call_thread(self._commit_all, positions)
        return result

    async def _commit_all(self, positions: Mapping[TP, Committed]) -> bool:
        assigned = self.assignment()
        wanted = {TopicPartition(*tp): OffsetAndMetadata(*each) for tp, each in positions.items() if tp in assigned}
        try:
            await self._ensure_consumer().commit(wanted)
        except (OffsetMetadataTooLargeError, InvalidCommitOffsetSizeError) as error:
            raise MetadataRefusedError from error
        except (CommitFailedError, IllegalStateError):
            return False
        except BaseException as error:  # noqa: BLE001  # Faust stops the app if this raises
            await self.crash(to_exception(error))
            return False
        return True

    def _assignment(self) -> Any:
        """Return aiokafka's current assignment, or None."""
        subscription = self._ensure_consumer()._subscription.subscription
        assignment = subscription.assignment if subscription is not None else None
        return assignment if assignment is not None and assignment.active else None
