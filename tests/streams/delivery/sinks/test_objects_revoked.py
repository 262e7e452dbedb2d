"""What becomes of unwritten objects when their partition goes."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from streams.delivery.objects.buffer import ObjectBuffer, ObjectBuffers
from streams.delivery.objects.spool import SpoolClosedError

TP, OTHER = ("forward", 0), ("forward", 1)


@dataclass
class Record:
    offset: int
    timestamp: int | None = 0
    key: bytes | None = b"k"
    value: bytes | None = b"v"


def put_all(objects: ObjectBuffers, tp: tuple[str, int], count: int) -> list[ObjectBuffer]:
    """The objects that ended."""
    return [ended for offset in range(count) if (ended := objects.put(tp, Record(offset)))]


def test_a_revoked_partition_keeps_nothing_and_moves_nothing(tmp_path: Path):
    """Its objects are dropped with their records; finished late, they do not move the commit when it is held again."""
    objects = ObjectBuffers(lambda offset, _: offset // 2, 1000, tmp_path)
    (old,) = put_all(objects, TP, 3)
    (kept,) = put_all(objects, OTHER, 3)
    objects.drop([TP, ("never", 7)])
    assert (objects.committable(TP), objects.partitions()) == (None, [OTHER])
    assert old.dropped
    with pytest.raises(SpoolClosedError):
        list(old.spool.records())
    assert not kept.dropped
    assert [record.offset for record in kept.spool.records()] == [0, 1]
    (new,) = put_all(objects, TP, 3)
    for _ in range(2):
        old.finish_record()
    assert objects.committable(TP) == 0
    for _ in range(2):
        new.finish_record()
    assert objects.committable(TP) == 2


def test_records_can_be_read_until_their_object_is_closed(tmp_path: Path):
    """An object whose encoding failed is encoded again from the same records."""
    objects = ObjectBuffers(lambda offset, _: offset // 2, 1000, tmp_path)
    (ended,) = put_all(objects, TP, 3)
    assert [len(list(ended.spool.records())) for _ in range(2)] == [2, 2]
    ended.spool.close()
    with pytest.raises(SpoolClosedError):
        list(ended.spool.records())


def test_an_object_is_finished_by_its_rows_and_its_other_records(tmp_path: Path):
    """Rows finish at once when the object is written, every other record on its own, in any order."""
    objects = ObjectBuffers(lambda offset, _: offset // 4, 1000, tmp_path)
    (ended,) = put_all(objects, TP, 5)
    ended.finish_record()
    assert objects.committable(TP) == 0
    ended.finish_records(3)
    assert (ended.finished, objects.committable(TP)) == (True, 4)
    assert (ended.offsets.first, ended.offsets.last) == (0, 3)


def test_records_without_key_value_or_time_are_taken(tmp_path: Path):
    """Anything that Kafka holds can be part of an object, and counts with its bytes."""
    objects = ObjectBuffers(lambda _, time: time, 100, tmp_path)
    for offset in range(3):
        assert objects.put(TP, Record(offset, None, None, None)) is None
    assert objects.put(TP, Record(3, None, b"k" * 60, b"v" * 40)) is None
    ended = objects.put(TP, Record(4, None, b"k", None))
    assert ended is not None
    assert [record.offset for record in ended.spool.records()] == [0, 1, 2, 3]
